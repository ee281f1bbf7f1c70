package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// maxNodes bounds what a boot server may answer.
const maxNodes = 256 << 20

// nodesPatience is how long it may take to answer.
const nodesPatience = 20 * time.Second

// nodesOptions is how nodes are shown.
type nodesOptions struct {
	server  string
	stages  bool
	summary bool
	failed  bool
	watch   bool
	every   time.Duration
}

func (a *app) netbootNodesCommand() *cobra.Command {
	var o nodesOptions
	cmd := &cobra.Command{
		Use:   "nodes [NAME|MAC...]",
		Short: "Show how far each node has come",
		Long: `Ask a boot server how far its nodes have come: the stage each is in and for how long, how long the boot took until then, and the last error.
One node is shown with all its stages. What a stage means is in docs/netboot.md.`,
		Example: `  windlass netboot nodes
  windlass netboot nodes n1
  windlass netboot nodes --server http://head:8080 n1 n2
  windlass netboot nodes --watch --summary
  windlass netboot nodes --failed
  windlass netboot nodes --stages
  windlass netboot nodes -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.server = cmp.Or(o.server, a.env("WINDLASS_NETBOOT_URL"), "http://127.0.0.1:8080")
			if !o.watch {
				return a.showNodes(cmd.Context(), o, args)
			}
			return a.watchNodes(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "URL of the boot server (WINDLASS_NETBOOT_URL; default http://127.0.0.1:8080)")
	f.BoolVar(&o.stages, "stages", false, "show when each stage was reached, in seconds since the boot began")
	f.BoolVar(&o.summary, "summary", false, "show how many nodes are in each stage")
	f.BoolVar(&o.failed, "failed", false, "show only nodes with an error")
	f.BoolVarP(&o.watch, "watch", "w", false, "show it again and again, until interrupted")
	f.DurationVar(&o.every, "interval", 2*time.Second, "with --watch, how often")
	return cmd
}

func (a *app) showNodes(ctx context.Context, o nodesOptions, args []string) error {
	all, err := askNodes(ctx, o.server)
	if err != nil {
		return err
	}
	all, missing := pick(all, args)
	if missing != nil && len(all) == 0 {
		return missing
	}
	if o.failed {
		all = slices.DeleteFunc(all, func(s nodes.Status) bool { return s.Error == nil })
	}
	return errors.Join(missing, a.print(all, func(w io.Writer) error {
		switch {
		case o.stages:
			return writeStages(w, all)
		case o.summary:
			return writeSummary(w, all)
		case len(args) == 1 && len(all) == 1:
			return a.writeNode(w, all[0])
		}
		return a.writeNodes(w, all)
	}))
}

// watchNodes shows it until it is interrupted; on a terminal each time in place of the last. A server that is away for a while is told of.
func (a *app) watchNodes(ctx context.Context, o nodesOptions, args []string) error {
	if o.every < 100*time.Millisecond {
		return fault.New(fault.Invalid, "--interval: at least 100ms")
	}
	out := a.out
	defer func() { a.out = out }()
	for first := true; ; first = false {
		var page bytes.Buffer
		a.out = &page
		err := a.showNodes(ctx, o, args)
		if ctx.Err() != nil {
			return nil // who interrupts it has seen enough
		}
		if err != nil {
			if first {
				return err
			}
			fmt.Fprintln(&page, printable(err.Error()))
		}
		if terminal(out) != nil {
			_, _ = io.WriteString(out, "\x1b[H\x1b[2J") // the write below fails as well
		}
		if _, err := page.WriteTo(out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
}

func askNodes(ctx context.Context, server string) ([]nodes.Status, error) {
	if !strings.HasPrefix(server, "http://") && !strings.HasPrefix(server, "https://") {
		return nil, fault.New(fault.Invalid, "--server: %q is no http://HOST[:PORT]", server)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(server, "/")+"/nodes?format=json", nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "--server: %w", err)
	}
	resp, err := (&http.Client{Timeout: nodesPatience}).Do(req)
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
