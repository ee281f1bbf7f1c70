package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/go-openapi/strfmt"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// completeTimeout bounds a completion: a shell that hangs on Tab is worse than none.
const completeTimeout = time.Second

// listing is what ps lists; a kind that was not asked for is empty.
type listing struct {
	Containers  []*models.Container `json:"containers"`
	Mounts      []*models.Mount     `json:"mounts"`
	Attachments []*models.Attach    `json:"attachments"`
}

func (a *app) psCommand() *cobra.Command {
	var (
		quiet       bool
		state, kind string
	)
	cmd := &cobra.Command{
		Use:     "ps [containers|mounts|attachments|all]",
		Aliases: []string{"ls", "list"},
		Short:   "List containers, mounts or attachments",
		Long:    "List containers, in whatever state, or mounts, attachments or all of them.",
		Example: `  windlass ps
  windlass ps --state running
  windlass ps mounts --kind overlay
  windlass ps all -o json`,
		ValidArgs: []string{"containers", "mounts", "attachments", "all"},
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := append(args, "containers")[0]
			if state != "" && what != "containers" {
				return usagef(cmd, "--state is for containers")
			}
			if kind != "" && what != "mounts" && what != "attachments" {
				return usagef(cmd, "--kind is for mounts and attachments")
			}
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			list, err := daemon.list(cmd.Context(), what, state, kind)
			if err != nil {
				return err
			}
			if quiet {
				return list.writeIDs(a.out)
			}
			return a.print(list.only(what), func(w io.Writer) error { return a.writeListing(w, list, what) })
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only the ids")
	cmd.Flags().StringVar(&state, "state", "", "only containers in this state")
	cmd.Flags().StringVar(&kind, "kind", "", "only mounts or attachments of this kind")
	return cmd
}

func (c *api) list(ctx context.Context, what, state, kind string) (list listing, err error) {
	if what == "containers" || what == "all" {
		if list.Containers, err = c.containers(ctx, nil, nil, ref(state)); err != nil {
			return list, err
		}
	}
	if what == "mounts" || what == "all" {
		if list.Mounts, err = c.mounts(ctx, nil, ref(kind)); err != nil {
			return list, err
		}
	}
	if what == "attachments" || what == "all" {
		list.Attachments, err = c.attachments(ctx, nil, ref(kind))
	}
	return list, err
}

// only gives the list of one kind by itself, and all as they are.
func (l listing) only(what string) any {
	switch what {
	case "containers":
		return notNil(l.Containers)
	case "mounts":
		return notNil(l.Mounts)
	case "attachments":
		return notNil(l.Attachments)
	}
	return listing{notNil(l.Containers), notNil(l.Mounts), notNil(l.Attachments)}
}

func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (l listing) objects() (all []object) {
	for _, o := range l.Containers {
		all = append(all, o)
	}
	for _, o := range l.Mounts {
		all = append(all, o)
	}
	for _, o := range l.Attachments {
		all = append(all, o)
	}
	return all
}

func (l listing) writeIDs(w io.Writer) error {
	for _, o := range l.objects() {
		if _, err := fmt.Fprintln(w, idOf(o)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) writeListing(w io.Writer, l listing, what string) error {
	tables := map[string]func() *table{
		"containers":  func() *table { return a.containerTable(l.Containers) },
		"mounts":      func() *table { return mountTable(l.Mounts) },
		"attachments": func() *table { return attachTable(l.Attachments) },
	}
	kinds := []string{what}
	if what == "all" {
		kinds = []string{"containers", "mounts", "attachments"}
	}
	colours := a.palette(w)
	for i, kind := range kinds {
		t := tables[kind]()
		t.paint = func(column int, cell, padded string) string {
			if t.head[column] != "STATE" {
				return padded
			}
			return colours.paint(stateColour(cell), padded)
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if what == "all" {
			fmt.Fprintf(w, "%s\n", strings.ToUpper(kind))
		}
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) containerTable(list []*models.Container) *table {
	t := &table{head: []string{"ID", "NAME", "STATE", "READY", "PID", "STATUS", "IMAGE", "COMMAND"}}
	for _, c := range list {
		ready, pid := "no", ""
		if deref(c.Ready) {
			ready = "yes"
		}
		if c.Pid != 0 {
			pid = strconv.FormatInt(c.Pid, 10)
		}
		t.add(id(c.ID), string(c.Name), string(c.State), ready, pid, a.status(c), short(sourceOf(c), 40), short(deref(c.Command), 40))
	}
	return t
}

// status says in words since when a container is what it is, and why.
func (a *app) status(c *models.Container) string {
	switch c.State {
	case models.ContainerStateCreated:
		return "created " + a.ago(c.Created)
	case models.ContainerStateRunning, models.ContainerStatePaused, models.ContainerStateStopping:
		if c.Started == nil {
			return ""
		}
		return "up " + strings.ToLower(units.HumanDuration(a.opts.Now().Sub(time.Time(*c.Started))))
	case models.ContainerStateExited, models.ContainerStateDead:
		text := ""
		switch {
		case deref(c.OomKilled):
			text = "out of memory "
		case c.ExitSignal != "":
			text = c.ExitSignal + " "
		case c.ExitCode != nil:
			text = fmt.Sprintf("code %d ", *c.ExitCode)
		case c.Error != "":
			return short(c.Error, 60)
		}
		return text + a.ago(c.Finished)
	}
	return ""
}

func (a *app) ago(t *strfmt.DateTime) string {
	if t == nil {
		return ""
	}
	return strings.ToLower(units.HumanDuration(a.opts.Now().Sub(time.Time(*t)))) + " ago"
}

func mountTable(list []*models.Mount) *table {
	t := &table{head: []string{"ID", "KIND", "STATE", "MOUNTPOINT", "HOLDERS", "SOURCE"}}
	for _, m := range list {
		kind := string(m.Kind)
		if m.Attach != nil && m.Attach.FsType != nil {
			kind += " " + *m.Attach.FsType
		}
		t.add(id(m.ID), kind, m.State, m.Mountpoint, strings.Join(m.Holders, " "), short(sourceOf(m), 60))
	}
	return t
}

func attachTable(list []*models.Attach) *table {
	t := &table{head: []string{"ID", "KIND", "STATE", "DEVICE", "HOLDERS", "SOURCE"}}
	for _, at := range list {
		t.add(id(at.ID), string(at.Kind), at.State, at.DeviceFile, strings.Join(at.Holders, " "), short(sourceOf(at), 60))
	}
	return t
}

func id(n models.ID) string { return strconv.FormatInt(int64(n), 10) }

// writeObjects shows objects as ps would, one table a kind.
func (a *app) writeObjects(w io.Writer, objects []object) error {
	var l listing
	for _, o := range objects {
		switch o := o.(type) {
		case *models.Container:
			l.Containers = append(l.Containers, o)
		case *models.Mount:
			l.Mounts = append(l.Mounts, o)
		case *models.Attach:
			l.Attachments = append(l.Attachments, o)
		}
	}
	for _, k := range []struct {
		what string
		n    int
	}{{"containers", len(l.Containers)}, {"mounts", len(l.Mounts)}, {"attachments", len(l.Attachments)}} {
		if k.n > 0 {
			if err := a.writeListing(w, l, k.what); err != nil {
				return err
			}
		}
	}
	return nil
}
