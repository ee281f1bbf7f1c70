package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) treeCommand() *cobra.Command {
	var ascii bool
	cmd := &cobra.Command{
		Use:   "tree [ID|NAME]...",
		Short: "Draw chains: what stands on what",
		Long: `Draw chains, container over mount over attachment, each with its state, where it is and where it comes from. Without a
target all are drawn. A link that others hold too is marked with them.`,
		Example: `  windlass tree
  windlass tree web
  windlass tree --ascii 7`,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			roots, err := daemon.roots(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.print(notNil(roots), func(w io.Writer) error {
				d := drawing{palette: a.palette(w), unicode: a.unicode() && !ascii, drawn: map[models.ID]bool{}}
				for _, r := range roots {
					d.draw(link{to: r}, "", "")
				}
				_, err := io.WriteString(w, d.text.String())
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&ascii, "ascii", false, "draw with ASCII only, as where the locale is not UTF-8")
	return cmd
}

// roots gives the targets, or, without any, all objects that nothing stands on.
func (c *api) roots(ctx context.Context, targets []string) (roots []object, err error) {
	for _, t := range targets {
		o, err := c.find(ctx, t)
		if err != nil {
			return nil, err
		}
		roots = append(roots, o)
	}
	if len(targets) > 0 {
		return roots, nil
	}
	list, err := c.list(ctx, "all", "", "")
	if err != nil {
		return nil, err
	}
	under := map[models.ID]bool{}
	var mark func(o object)
	mark = func(o object) {
		for _, l := range below(o) {
			under[idOf(l.to)] = true
			mark(l.to)
		}
	}
	all := list.objects()
	for _, o := range all {
		mark(o)
	}
	for _, o := range all {
		if !under[idOf(o)] {
			roots = append(roots, o)
		}
	}
	return roots, nil
}

// drawing is a forest as text.
type drawing struct {
	palette palette
	unicode bool
	drawn   map[models.ID]bool
	text    strings.Builder
}

// draw adds an object, first standing before its own line and rest before those below it.
func (d *drawing) draw(l link, first, rest string) {
	id := idOf(l.to)
	d.text.WriteString(first + l.role + d.label(l.to))
	if d.drawn[id] && len(below(l.to)) > 0 {
		d.text.WriteString(d.palette.paint(faint, "  (drawn above)") + "\n")
		return
	}
	d.text.WriteByte('\n')
	d.drawn[id] = true
	links := below(l.to)
	tee, bar, corner := "├─ ", "│  ", "└─ "
	if !d.unicode {
		tee, bar, corner = "|- ", "|  ", "`- "
	}
	for i, child := range links {
		if i < len(links)-1 {
			d.draw(child, rest+tee, rest+bar)
		} else {
			d.draw(child, rest+corner, rest+"   ")
		}
	}
}

// label is an object in one line: what it is, its state, its facts.
func (d *drawing) label(o object) string {
	head := fmt.Sprintf("%s %d", kindOf(o), idOf(o))
	var facts []string
	var holders []string
	var failure string
	switch o := o.(type) {
	case *models.Container:
		head += " " + string(o.Name)
		facts, holders, failure = containerFacts(o), o.Holders, o.Error
	case *models.Mount:
		facts, holders, failure = mountFacts(o), o.Holders, o.Error
	case *models.Attach:
		facts, holders, failure = attachFacts(o), o.Holders, o.Error
	}
	words := []string{strings.TrimSpace(printable(head))}
	if state := stateOf(o); state != "" {
		words = append(words, d.palette.paint(stateColour(state), state))
	}
	for _, f := range facts {
		words = append(words, printable(f))
	}
	if len(holders) > 1 {
		words = append(words, d.palette.paint(faint, "[held by "+printable(strings.Join(holders, ", "))+"]"))
	}
	if failure != "" {
		words = append(words, d.palette.paint(red, "! "+short(printable(failure), 200)))
	}
	return strings.Join(words, "  ")
}

func containerFacts(c *models.Container) (facts []string) {
	running := c.State == models.ContainerStateRunning
	switch {
	case running && deref(c.Ready):
		facts = append(facts, "ready")
	case running && c.Systemd:
		facts = append(facts, "not ready yet")
	}
	if c.Pid != 0 {
		facts = append(facts, fmt.Sprintf("pid %d", c.Pid))
	}
	if c.ExitCode != nil && !running {
		facts = append(facts, fmt.Sprintf("exit code %d", *c.ExitCode))
	}
	return append(facts, short(deref(c.Command), 60))
}

func mountFacts(m *models.Mount) (facts []string) {
	kind := string(m.Kind)
	switch {
	case m.Attach != nil:
		kind = deref(m.Attach.FsType)
		if len(m.Attach.MountOptions) > 0 {
			kind += " (" + strings.Join(m.Attach.MountOptions, ",") + ")"
		}
	case m.Overlay != nil && deref(m.Overlay.Ro), m.Bind != nil && deref(m.Bind.Ro):
		kind += " (ro)"
	case m.Overlay != nil && m.Overlay.Upper != nil && m.Overlay.Upper.Path != "":
		kind += " (upper " + m.Overlay.Upper.Path + ")"
	case m.Overlay != nil && m.Overlay.Upper != nil && m.Overlay.Upper.Size > 0:
		kind += " (upper tmpfs " + units.BytesSize(float64(m.Overlay.Upper.Size)) + ")"
	case m.Tmpfs != nil && m.Tmpfs.Size > 0:
		kind += " (" + units.BytesSize(float64(m.Tmpfs.Size)) + ")"
	case m.Chunkfs != nil:
		kind += chunkfsFacts(m.Chunkfs)
	}
	facts = append(facts, kind)
	if m.Mountpoint != "" {
		facts = append(facts, m.Mountpoint)
	}
	if m.Bind != nil || m.URI != nil || m.Nfs != nil || m.Chunkfs != nil {
		facts = append(facts, "from "+sourceOf(m))
	}
	return facts
}

func attachFacts(at *models.Attach) (facts []string) {
	facts = append(facts, string(at.Kind))
	if at.DeviceFile != "" {
		facts = append(facts, at.DeviceFile)
	}
	facts = append(facts, "from "+sourceOf(at))
	if at.Loopback != nil && deref(at.Loopback.Partition) != 0 {
		facts = append(facts, fmt.Sprintf("partition %d", *at.Loopback.Partition))
	}
	if at.Local != nil && deref(at.Local.Partition) != 0 {
		facts = append(facts, fmt.Sprintf("partition %d", *at.Local.Partition))
	}
	return facts
}
