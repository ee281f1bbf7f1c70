package chain

import (
	"context"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// execLimit bounds how long a process in a container may take to begin. What it is started from may lie on dead storage, where the start
// waits in the kernel and heeds no context: after Config.AnswerTimeout it is looked whether that is so. On a busy node it is only slow.
const execLimit = 45 * time.Second

// Exec starts a process in a running container.
func (c *Chain) Exec(ctx context.Context, id int64, spec *models.ExecSpec) (container.Process, error) {
	o, err := c.containerBy(&id, nil)
	if err != nil {
		return nil, err
	}
	switch state := c.stateOf(o); state {
	case models.ContainerStateRunning, models.ContainerStateStopping:
	case models.ContainerStatePaused:
		return nil, fault.Hintf(fault.New(fault.BadState, "%s is paused", o), "resume it first")
	default:
		return nil, fault.Hintf(fault.New(fault.BadState, "%s is %s", o, state), "start it first")
	}
	return c.exec(ctx, o, spec)
}

// begun is what a start of a process gave.
type begun struct {
	process container.Process
	err     error
}

// exec starts a process, but does not wait for it when what it lies on does not answer: then it is closed when it comes after all.
func (c *Chain) exec(ctx context.Context, o *object, spec *models.ExecSpec) (container.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, execLimit)
	defer cancel()
	came := make(chan begun, 1)
	go func() {
		p, err := c.cfg.Runtime.Exec(ctx, o.id, spec)
		came <- begun{p, err}
	}()
	for wait := c.cfg.AnswerTimeout; ; wait = time.Second {
		late := time.NewTimer(wait)
		select {
		case b := <-came:
			late.Stop()
			if b.err != nil {
				return nil, fmt.Errorf("exec in %s: %w", o, b.err)
			}
			return b.process, nil
		case <-late.C:
		}
		if text := c.deadBelow(o); text != "" || ctx.Err() != nil {
			go dropLate(came)
			return nil, fault.New(fault.Timeout, "stuck: exec in %s has not begun: %s", o, orUnknown(text))
		}
		c.refreshSoon()
	}
}

// dropLate ends a process that nobody waits for any more.
func dropLate(came <-chan begun) {
	if b := <-came; b.err == nil {
		_ = b.process.Close()
	}
}

func orUnknown(text string) string {
	if text == "" {
		return "nobody knows what it waits for"
	}
	return text
}
