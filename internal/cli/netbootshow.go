package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

func (a *app) writeNodes(w io.Writer, all []nodes.Status) error {
	t := &table{head: nodes.Head()}
	for _, s := range all {
		t.add(s.Cells(a.opts.Now())...)
	}
	t.paint = func(column int, cell, padded string) string {
		if head := t.head[column]; head == "STATE" || head == "ERROR" && cell != "-" {
			return a.palette(w).paint(bootColour(head, cell), padded)
		}
		return padded
	}
	return t.write(w)
}

func bootColour(head, cell string) string {
	switch {
	case head == "ERROR" || cell == string(bootstage.Failed):
		return red
	case cell == string(bootstage.Begun):
		return yellow
	case cell == string(bootstage.Done):
		return green
	}
	return ""
}

// writeNode shows one node with all that is known of it.
func (a *app) writeNode(w io.Writer, s nodes.Status) error {
	var b strings.Builder
	say := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-10s %s\n", name, printable(text))
		}
	}
	now := a.opts.Now()
	say("name", s.Name)
	say("mac", s.MAC)
	say("ip", s.IP)
	say("group", s.Group)
	say("platform", s.Platform)
	if s.Stage == "" {
		say("stage", "it has not been seen yet")
	} else {
		say("stage", fmt.Sprintf("%s %s for %s", s.Stage, s.State, now.Sub(s.Since).Truncate(time.Second)))
	}
	say("message", s.Message)
	if s.Error != nil {
		say("error", fmt.Sprintf("%s: %s (%s ago)", s.Error.Stage, s.Error.Text, now.Sub(s.Error.Time).Truncate(time.Second)))
	}
	if s.Boots > 0 {
		say("boots", fmt.Sprint(s.Boots))
		say("sent", size(s.Bytes)+" in this boot")
		say("last seen", now.Sub(s.Last).Truncate(time.Second).String()+" ago")
	}
	if _, err := io.WriteString(w, b.String()); err != nil || len(s.Stages) == 0 {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	t := &table{head: []string{"STAGE", "STATE", "TIME", "AFTER", "TOOK"}}
	for _, e := range s.Stages {
		took := ""
		if d := e.Ended.Sub(e.Time); e.Ended.After(e.Time) {
			took = fmt.Sprintf("%.1fs", d.Seconds())
		}
		t.add(string(e.Stage), string(e.State), e.Time.In(now.Location()).Format("2006-01-02 15:04:05.0"), fmt.Sprintf("%.1fs", e.Seconds), took)
	}
	return t.write(w)
}

// writeSummary shows how many nodes are where.
func writeSummary(w io.Writer, all []nodes.Status) error {
	type where struct {
		stage bootstage.Stage
		state bootstage.State
	}
	count, failed := map[where]int{}, map[where]int{}
	for _, s := range all {
		k := where{s.Stage, s.State}
		count[k]++
		if s.Error != nil {
			failed[k]++
		}
	}
	t := &table{head: []string{"STAGE", "STATE", "NODES", "WITH AN ERROR"}}
	row := func(name string, k where) {
		if count[k] > 0 {
			t.add(name, string(k.state), fmt.Sprint(count[k]), fmt.Sprint(failed[k]))
		}
	}
	row("never seen", where{})
	for _, stage := range bootstage.All() {
		for _, state := range []bootstage.State{bootstage.Begun, bootstage.Failed, bootstage.Done, ""} {
			row(string(stage), where{stage, state})
		}
	}
	return t.write(w)
}

// writeStages shows a column for each stage that any of the nodes reached.
func writeStages(w io.Writer, all []nodes.Status) error {
	reached := map[bootstage.Stage]bool{}
	for _, s := range all {
		for _, e := range s.Stages {
			reached[e.Stage] = true
		}
	}
	t := &table{head: []string{"NAME"}}
	var columns []bootstage.Stage
	for _, stage := range bootstage.All() {
		if reached[stage] {
			columns = append(columns, stage)
			t.head = append(t.head, strings.ToUpper(string(stage)))
		}
	}
	for _, s := range all {
		row := []string{cmp.Or(s.Name, s.MAC)}
		for _, stage := range columns {
			cell := ""
			for _, e := range s.Stages {
				if e.Stage == stage {
					cell = fmt.Sprintf("%.1f", e.Seconds)
				}
			}
			row = append(row, cell)
		}
		t.add(row...)
	}
	return t.write(w)
}
