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
	fmt.Fprintln(t, strings.Join(Head(), "\t"))
	for _, s := range all {
		fmt.Fprintln(t, strings.Join(s.Cells(now), "\t"))
	}
	return t.Flush()
}

// Head names the columns of the table.
func Head() []string {
	return []string{"NAME", "MAC", "IP", "GROUP", "STAGE", "STATE", "SINCE", "TOOK", "ERROR"}
}

// Cells are the columns of the table for one node, as Head names them; "-" for what is not there.
func (s Status) Cells(now time.Time) []string {
	cells := []string{s.Name, s.MAC, s.IP, s.Group, string(s.Stage), string(s.State), "", "", ""}
	if !s.Since.IsZero() {
		cells[6] = now.Sub(s.Since).Truncate(time.Second).String()
	}
	if len(s.Stages) > 0 {
		cells[7] = fmt.Sprintf("%.1fs", s.Took().Seconds())
	}
	if s.Error != nil {
		cells[8] = fmt.Sprintf("%s: %s", s.Error.Stage, s.Error.Text)
	}
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	return cells
}
