package chain

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// stopSystemd is SIGRTMIN+3 as systemd counts it: halt (systemd(1), SIGNALS).
const stopSystemd = 34 + 3

// queueWait bounds how long an operation that is to be answered at once waits for another one to end.
const queueWait = 3500 * time.Millisecond

// soon is queue for such an operation: one that starts a container on dead storage must not keep it from its answer.
func (c *Chain) soon(ctx context.Context, o *object) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, queueWait)
	defer cancel()
	return c.queue(ctx, o)
}

// queue waits until no other operation works on the container, and gives the way to let the next one in.
func (c *Chain) queue(ctx context.Context, o *object) (release func(), err error) {
	select {
	case o.op <- struct{}{}:
		return func() { <-o.op }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Timeout, "stuck: another operation on %s has not ended: %w", o, ctx.Err())
	}
}

// start runs the container's command. Running already is success.
func (c *Chain) start(ctx context.Context, o *object) error {
	release, err := c.queue(ctx, o)
	if err != nil {
		return err
	}
	defer release()
	if phase := c.phaseOf(o); phase != Ready {
		return fault.New(fault.BadState, "%s is %s and cannot be started", o, phase)
	}
	switch state := c.stateOf(o); state {
	case models.ContainerStateRunning:
		return nil
	case models.ContainerStatePaused:
		return c.thaw(ctx, o)
	case models.ContainerStateStopping:
		return fault.Hintf(fault.New(fault.BadState, "%s is stopping", o), "wait until it has exited")
	}
	if err := c.launch(ctx, o); err != nil {
		c.update(o, func() { o.ctr.State, o.err, o.hint = models.ContainerStateDead, err.Error(), fault.HintOf(err) })
		c.keep(o)
		return fault.New(fault.Internal, "%w", err) // the wire contract has 500 for every start that fails
	}
	c.keep(o)
	return nil
}

// launch has the runtime start it and follows it from then on.
func (c *Chain) launch(ctx context.Context, o *object) error {
	root := c.dir.Mount(int64(o.below[0].ID))
	spec := *o.container
	spec.ID = o.id
	return c.call(ctx, o, "start", c.cfg.StepTimeout, func(ctx context.Context) error {
		if err := c.cfg.Runtime.Check(ctx, &spec, root); err != nil {
			return fmt.Errorf("start %s: %w", o, err)
		}
		status, err := c.cfg.Runtime.Start(ctx, o.id, &spec, root)
		if err != nil {
			return fmt.Errorf("start %s: %w", o, err)
		}
		c.update(o, func() {
			o.err, o.hint, o.ctr = "", "", containerState{State: models.ContainerStateRunning}
			o.ctr.follow(status)
			o.run++
		})
		c.watch(o)
		return nil
	})
}

// watchPause is how long the runtime is left alone when a container that runs could not be followed.
const watchPause = time.Second

// watch follows this run of the container until it has ended or the chain closes.
func (c *Chain) watch(o *object) {
	c.mu.RLock()
	run := o.run
	c.mu.RUnlock()
	c.wg.Go(func() {
		for c.follow(o, run) {
			wait := time.NewTimer(watchPause)
			select {
			case <-c.ctx.Done():
			case <-wait.C:
			}
			wait.Stop()
		}
	})
}

// follow takes over what the runtime says of a run, for as long as it says something; true when that was not the end of it.
func (c *Chain) follow(o *object, run int) (more bool) {
	changes, err := c.cfg.Runtime.Watch(c.ctx, o.id)
	if err != nil {
		c.update(o, func() { o.err = fmt.Sprintf("it cannot be watched: %v", err) })
		return c.goesOn(o, run)
	}
	for status := range changes {
		c.learn(o, run, status)
	}
	return c.goesOn(o, run)
}

// learn takes over a status of a run.
func (c *Chain) learn(o *object, run int, status container.Status) {
	c.update(o, func() {
		if o.run != run {
			return
		}
		o.ctr.follow(status)
		if o.ctr.ended() { // trouble on the way to its end is over with it
			o.err, o.hint = "", ""
		}
	})
	c.keep(o)
}

// goesOn reports whether the run has not ended as far as we know.
func (c *Chain) goesOn(o *object, run int) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.ctx.Err() == nil && o.run == run && o.phase != Gone && o.ctr.runs()
}

// keep writes the record of a change that has happened anyway. When it cannot be written the next daemon asks the kernel.
func (c *Chain) keep(o *object) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), recordTimeout)
	defer cancel()
	if err := c.save(ctx, o); err != nil {
		c.log.WithField("obj", o.id).WithError(err).Warn("its state could not be recorded")
	}
}

// halt asks the container to end, and sees to it that it has after the grace. It returns at once; not running is success.
func (c *Chain) halt(ctx context.Context, o *object, asked *time.Duration) error {
	release, err := c.queue(ctx, o)
	if err != nil {
		return err
	}
	defer release()
	if phase := c.phaseOf(o); phase != Ready && phase != Lost {
		return fault.New(fault.BadState, "%s is %s and cannot be stopped", o, phase)
	}
	begin, run := false, 0
	killAt := time.Now().Add(c.grace(o, asked))
	c.update(o, func() {
		run = o.run
		switch {
		case !o.ctr.runs():
		case o.ctr.State != models.ContainerStateStopping:
			begin = true
			o.ctr.State, o.ctr.KillAt = models.ContainerStateStopping, killAt
		case asked != nil && killAt.Before(o.ctr.KillAt): // asked again, with less patience
			o.ctr.KillAt = killAt
		}
	})
	if !begin {
		return nil
	}
	c.keep(o)
	c.wg.Go(func() { c.seeEnd(o, run) })
	return nil
}

// killPause is how long the runtime is left alone when what it killed has not ended.
const killPause = 3 * time.Second

// seeEnd sees a stopping run to its end: the signal, the grace, then SIGKILL to all of it. A signal that systemd gets before it is ready
// may be lost, since pid 1 of a namespace only sees signals that it has a handler for: it is sent again then.
func (c *Chain) seeEnd(o *object, run int) {
	asked, heard := false, false
	for {
		c.mu.RLock()
		done := o.run != run || o.ctr.State != models.ContainerStateStopping || o.phase == Gone
		killAt, changed, ready := o.ctr.KillAt, o.changed, o.ctr.Status.Ready
		c.mu.RUnlock()
		if done || c.ctx.Err() != nil {
			return
		}
		left := time.Until(killAt)
		switch {
		case left <= 0:
			c.kill(o, run)
			left, changed = killPause, nil // its own changes must not wake it
		case !asked || (o.container.Systemd && ready && !heard):
			asked, heard = true, ready
			c.askToStop(o)
			continue
		}
		wait := time.NewTimer(left)
		select {
		case <-changed:
		case <-wait.C:
		case <-c.ctx.Done():
		}
		wait.Stop()
	}
}

func (c *Chain) askToStop(o *object) {
	signal := int(syscall.SIGTERM)
	if o.container.Systemd {
		signal = stopSystemd
	}
	err := c.call(c.ctx, o, "stop", c.cfg.UndoTimeout, func(ctx context.Context) error {
		if err := c.cfg.Runtime.Resume(ctx, o.id); err != nil { // frozen, it would never see the signal
			return err
		}
		return c.cfg.Runtime.Signal(ctx, o.id, signal)
	})
	if err != nil && !fault.Is(err, fault.BadState) { // BadState: it ended meanwhile
		c.update(o, func() { o.err = fmt.Sprintf("asking it to stop: %v", err) })
	}
}

// kill ends a run, and asks how it is then: who watches may have lost sight of it.
func (c *Chain) kill(o *object, run int) {
	var status container.Status
	err := c.call(c.ctx, o, "kill", c.cfg.UndoTimeout, func(ctx context.Context) error {
		err := c.cfg.Runtime.Kill(ctx, o.id)
		if err == nil {
			status, err = c.cfg.Runtime.Status(ctx, o.id)
		}
		return err
	})
	if err != nil {
		c.update(o, func() { o.err = fmt.Sprintf("killing it: %v", err) })
		return
	}
	c.learn(o, run, status)
}

// freezeTimeout bounds how long the kernel may take to freeze or thaw: a process that waits for dead storage never freezes.
const freezeTimeout = 2 * time.Second

// freeze pauses a running container.
func (c *Chain) freeze(ctx context.Context, o *object) error {
	release, err := c.soon(ctx, o)
	if err != nil {
		return err
	}
	defer release()
	if phase := c.phaseOf(o); phase == Undoing || phase == Gone {
		return fault.New(fault.BadState, "%s is %s and cannot be paused", o, phase)
	}
	switch state := c.stateOf(o); state {
	case models.ContainerStatePaused:
		return nil
	case models.ContainerStateRunning:
	default:
		return fault.New(fault.BadState, "%s is %s: only a running container can be paused", o, state)
	}
	err = c.call(ctx, o, "pause", freezeTimeout, func(ctx context.Context) error { return c.cfg.Runtime.Pause(ctx, o.id) })
	if err != nil {
		return fmt.Errorf("pause %s: %w", o, err)
	}
	c.moveTo(o, models.ContainerStateRunning, models.ContainerStatePaused)
	return nil
}

// thaw resumes a paused container; its caller has queued.
func (c *Chain) thaw(ctx context.Context, o *object) error {
	err := c.call(ctx, o, "resume", freezeTimeout, func(ctx context.Context) error { return c.cfg.Runtime.Resume(ctx, o.id) })
	if err != nil {
		return fmt.Errorf("resume %s: %w", o, err)
	}
	c.moveTo(o, models.ContainerStatePaused, models.ContainerStateRunning)
	return nil
}

// moveTo changes the state when it is still the one expected: the container may have ended meanwhile.
func (c *Chain) moveTo(o *object, from, to models.ContainerState) {
	c.update(o, func() {
		if o.ctr.State == from {
			o.ctr.State = to
		}
	})
	c.keep(o)
}

func (c *Chain) stateOf(o *object) models.ContainerState {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return o.ctr.State
}

func (c *Chain) phaseOf(o *object) Phase {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return o.phase
}
