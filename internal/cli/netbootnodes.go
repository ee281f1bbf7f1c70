package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// maxNodes bounds what a boot server may answer.
const maxNodes = 256 << 20

func (a *app) netbootNodesCommand() *cobra.Command {
	var server string
	var stages bool
	cmd := &cobra.Command{
		Use:   "nodes [NAME|MAC...]",
		Short: "Show how far each node has come",
		Long: `Ask a boot server how far its nodes have come: the stage each is in and for how long, how long the boot took until then, and the last error.
What a stage means is in docs/netboot.md.`,
		Example: `  windlass netboot nodes
  windlass netboot nodes --server http://head:8080 n1 n2
  windlass netboot nodes --stages
  windlass netboot nodes -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := askNodes(cmd.Context(), cmp.Or(server, a.env("WINDLASS_NETBOOT_URL"), "http://127.0.0.1:8080"))
			if err != nil {
				return err
			}
			if all, err = pick(all, args); err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) error {
				if stages {
					return writeStages(w, all)
				}
				return a.writeNodes(w, all)
			})
		},
	}
	cmd.Flags().StringVar(&server, "server", "", "URL of the boot server (WINDLASS_NETBOOT_URL; default http://127.0.0.1:8080)")
	cmd.Flags().BoolVar(&stages, "stages", false, "show when each stage was reached, in seconds since the boot began")
	return cmd
}

func askNodes(ctx context.Context, server string) ([]nodes.Status, error) {
	if !strings.HasPrefix(server, "http://") && !strings.HasPrefix(server, "https://") {
		return nil, fault.New(fault.Invalid, "--server: %q is no http://HOST[:PORT]", server)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(server, "/")+"/nodes?format=json", nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "--server: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, exitError{exitUnreachable, fault.Hintf(fmt.Errorf("ask the boot server: %w", err), "is `windlass netboot serve` running there? --server names another one")}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodes))
	if err != nil {
		return nil, fmt.Errorf("ask the boot server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the boot server at %s answers %s: %s", server, resp.Status, short(string(body), 200))
	}
	var all []nodes.Status
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("what answers at %s is no boot server: %w", server, err)
	}
	return all, nil
}

// pick gives the nodes with these names or MACs; all without any.
func pick(all []nodes.Status, names []string) ([]nodes.Status, error) {
	if len(names) == 0 {
		return all, nil
	}
	var picked []nodes.Status
	var errs []error
	for _, name := range names {
		found := false
		for _, s := range all {
			if s.Name == name || strings.EqualFold(s.MAC, name) {
				picked, found = append(picked, s), true
			}
		}
		if !found {
			errs = append(errs, fault.New(fault.NotFound, "the boot server knows no node %s", name))
		}
	}
	return picked, errors.Join(errs...)
}

func (a *app) writeNodes(w io.Writer, all []nodes.Status) error {
	t := &table{head: nodes.Head()}
	for _, s := range all {
		t.add(s.Cells(a.opts.Now())...)
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
