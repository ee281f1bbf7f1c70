package nodes

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable shows nodes as a table for people.
func WriteTable(w io.Writer, all []Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMAC\tIP\tGROUP\tSTAGE\tSINCE\tTOOK\tERROR")
	for _, s := range all {
		fmt.Fprintln(t, strings.Join(s.Cells(now), "\t"))
	}
	return t.Flush()
}

// Cells are the columns of the table for one node: name, MAC, IP, group, stage, since, took, error; "-" for what is not there.
func (s Status) Cells(now time.Time) []string {
	cells := []string{s.Name, s.MAC, s.IP, s.Group, string(s.Stage), "", "", ""}
	if !s.Since.IsZero() {
		cells[5] = now.Sub(s.Since).Truncate(time.Second).String()
	}
	if k := len(s.Stages); k > 0 {
		cells[6] = fmt.Sprintf("%.1fs", s.Stages[k-1].Seconds)
	}
	if s.Error != nil {
		cells[7] = fmt.Sprintf("%s: %s", s.Error.Stage, s.Error.Text)
	}
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	return cells
}
