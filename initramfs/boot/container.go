package boot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/image"
	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// image makes the node what it was booted for: fetches the definition and has it raised, until that has worked.
func (n *node) image(ctx context.Context) {
	select {
	case <-n.up:
	case <-ctx.Done():
		return
	}
	if n.opts.Container == "" {
		return // the stage of the daemon is the last
	}
	for failures := 1; ; failures++ {
		s := n.j.Begin(bootstage.Image)
		spec, err := n.definition(ctx, s)
		stage := bootstage.Image
		if err == nil {
			n.well(stage)
			stage = bootstage.Container
			s = n.j.Begin(stage)
			switch n.opts.Handoff {
			case cmdline.HandoffContainer:
				err = n.raise(ctx, s, spec)
			default:
				err = n.handOff(ctx, s, spec)
			}
		}
		if err == nil || !n.again(ctx, stage, s, failures, err) {
			return
		}
	}
}

// definition fetches and reads it.
func (n *node) definition(ctx context.Context, s *journal.Stage) (*models.Container, error) {
	proof := image.Proof(n.opts.ContainerProof)
	data, comment, err := image.Read(ctx, n.fetch, "windlass.container", n.opts.Container, proof)
	if err != nil {
		return nil, err
	}
	spec, err := image.Definition(data, n.opts.Pass, cmdline.Line(n.opts.Pass))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", image.Shown(n.opts.Container), err)
	}
	s.Done("definition %s, %d bytes%s", image.Shown(n.opts.Container), len(data), image.Proven(proof, comment))
	return spec, nil
}

// raise has the daemon raise the container and follows it for as long as it lives. It gives an error when the container did not come up.
func (n *node) raise(ctx context.Context, s *journal.Stage, spec *models.Container) error {
	c, err := n.own(ctx)
	if err != nil {
		return err
	}
	if c == nil {
		if c, err = n.api.Create(ctx, spec); err != nil {
			return err
		}
	}
	s.Done("%s runs, process %d", called(c), c.Pid)
	n.well(bootstage.Container)
	n.raised.Store(true)
	running := n.j.BeginWith(bootstage.Running, called(c)+" starts, and is not ready yet")
	if c, err = n.wait(ctx, c, "ready"); err != nil {
		return fmt.Errorf("it did not become ready: %w", err)
	}
	running.Done("%s is ready", called(c))
	n.spawn("the watch over "+called(c), leave, func() { n.follow(ctx, running, c) })
	return nil
}

// own finds the container that an earlier try has raised, of which the answer was lost. One that has ended is taken away.
func (n *node) own(ctx context.Context) (*models.Container, error) {
	all, err := n.api.Containers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Labels[image.Label] == "" {
			continue
		}
		switch c.State {
		case models.ContainerStateRunning, models.ContainerStatePaused:
			return c, nil
		}
		if err := n.api.Delete(ctx, "container", c.ID, true); err != nil {
			return nil, fmt.Errorf("take away what an earlier try has left: %w", err)
		}
	}
	return nil, nil
}

// wait waits for a condition. A daemon that goes meanwhile comes back, and knows the container.
func (n *node) wait(ctx context.Context, c *models.Container, condition string) (*models.Container, error) {
	for {
		now, err := n.api.Wait(ctx, c.ID, condition)
		if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Timeout) || ctx.Err() != nil {
			return now, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// follow tells when the container ends. It is not started again: who ended it may have meant it.
func (n *node) follow(ctx context.Context, s *journal.Stage, c *models.Container) {
	now, err := n.wait(ctx, c, "ended")
	if ctx.Err() != nil {
		return
	}
	if fault.Is(err, fault.NotFound) {
		n.j.Say(bootstage.Running, "%s was deleted; the daemon waits for orders", called(c))
		return
	}
	if err != nil {
		s.Failed(err)
		return
	}
	how := "it has ended"
	switch {
	case now.ExitSignal != "":
		how += ", by " + now.ExitSignal
	case now.ExitCode != nil:
		how += fmt.Sprintf(" with code %d", *now.ExitCode)
	}
	s.Failed(fault.Hintf(errors.New(called(c)+": "+how), "`windlass start` starts it again, and `reboot` boots the node anew"))
}

func called(c *models.Container) string {
	if c.Name != "" {
		return string(c.Name)
	}
	return fmt.Sprintf("container %d", c.ID)
}
