package cli

import (
	"context"
	"fmt"
	"io"
	"sort"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// progressInterval is how often the daemon is asked how far it is.
const progressInterval = 150 * time.Millisecond

// progressFlags say whether the steps of a create are shown.
type progressFlags struct{ show bool }

func (p *progressFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.show, "progress", false, "show the steps on stderr; unsaid, when it is a terminal")
	p.show = false
}

// raise creates an object and shows its steps meanwhile.
func (a *app) raise(ctx context.Context, daemon *api, spec object, p progressFlags) (object, error) {
	tty := terminal(a.err) != nil
	if !p.show && !tty {
		return daemon.create(ctx, spec)
	}
	show := &progress{w: a.err, palette: a.palette(a.err), live: tty, done: map[string]bool{}}
	type answer struct {
		object object
		err    error
	}
	before, err := daemon.newest(ctx, spec)
	if err != nil {
		return nil, err
	}
	answered := make(chan answer, 1)
	go func() {
		o, err := daemon.create(ctx, spec)
		answered <- answer{o, err}
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case got := <-answered:
			show.steps(got.object)
			show.clear()
			return got.object, got.err
		case <-tick.C:
			// The answer to the POST says what went wrong; this is only for show.
			if o, err := daemon.underway(ctx, spec, before); err == nil {
				show.steps(o)
			}
		}
	}
}

// newest gives the highest id of the kind of spec, so that what comes after it can be told apart.
func (c *api) newest(ctx context.Context, spec object) (last models.ID, err error) {
	list, err := c.sameKind(ctx, spec)
	for _, o := range list {
		last = max(last, idOf(o))
	}
	return last, err
}

// underway finds the object that the daemon is raising for spec: a new one from the same source.
func (c *api) underway(ctx context.Context, spec object, after models.ID) (object, error) {
	list, err := c.sameKind(ctx, spec)
	for _, o := range list {
		if idOf(o) > after && sourceOf(o) == sourceOf(spec) {
			return o, nil
		}
	}
	return nil, err
}

func (c *api) sameKind(ctx context.Context, spec object) ([]object, error) {
	list, err := c.list(ctx, map[string]string{"attach": "attachments", "mount": "mounts", "container": "containers"}[kindOf(spec)], "", "")
	return list.objects(), err
}

// progress shows steps, each once when it has ended; on a terminal also the one that goes on.
type progress struct {
	w       io.Writer
	palette palette
	live    bool // the last line can be written over
	drawn   bool // and there is one
	done    map[string]bool
}

type shownStep struct {
	key, of string
	step    *models.Step
}

// steps shows what is new in the timelines of an object and of all below it.
func (p *progress) steps(o object) {
	var all []shownStep
	var collect func(o object)
	collect = func(o object) {
		for _, l := range below(o) { // raised first; the clock of the steps is too coarse to tell
			collect(l.to)
		}
		of := fmt.Sprintf("%s %d", kindOf(o), idOf(o))
		for i, s := range timelineOf(o) {
			if s != nil {
				all = append(all, shownStep{fmt.Sprintf("%s/%d", of, i), of, s})
			}
		}
	}
	if o == nil {
		return
	}
	collect(o)
	sort.SliceStable(all, func(i, j int) bool {
		return time.Time(all[i].step.Started).Before(time.Time(all[j].step.Started))
	})
	for _, s := range all {
		if !s.step.Running && !p.done[s.key] {
			p.done[s.key] = true
			p.clear()
			fmt.Fprintln(p.w, p.line(s))
		}
	}
	for _, s := range all {
		if s.step.Running && p.live {
			p.clear()
			fmt.Fprint(p.w, p.line(s))
			p.drawn = true
			break
		}
	}
}

// clear takes away the line of the step that goes on.
func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

func (p *progress) line(s shownStep) string {
	colour, word := green, "done"
	switch {
	case s.step.Error != "":
		colour, word = red, "failed"
	case s.step.Running:
		colour, word = yellow, "…"
	}
	text := fmt.Sprintf("%-14s %-28s %8.1f ms  ", s.of, printable(s.step.Stage), s.step.DurationMs) + p.palette.paint(colour, word)
	if s.step.Bytes > 0 {
		text += "  " + units.BytesSize(float64(s.step.Bytes))
		if s.step.TotalBytes > 0 {
			text += fmt.Sprintf(" of %s, %d %%", units.BytesSize(float64(s.step.TotalBytes)), 100*s.step.Bytes/s.step.TotalBytes)
		}
	}
	if s.step.Error != "" {
		text += ": " + short(printable(s.step.Error), 200)
	}
	return text
}
