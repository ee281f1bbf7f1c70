package nfs

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

const (
	// abortFor is how long what begins to wait is aborted too: whoever reads through several layers, such as a squashfs on a loop device,
	// tries again in each of them. It ends when the mount is taken away.
	abortFor = 20 * time.Second
	// abortWait is how long Abort waits for the first to fail.
	abortWait = 150 * time.Millisecond
)

// Abort makes what waits for a silent server fail, and what begins to wait for it in the next seconds.
func (d *Driver) Abort(ctx context.Context, a mount.Active) (bool, error) {
	dir := a.Target.Dir
	i, err := at(dir)
	if err != nil || i == nil || !isNFS(i) || d.answers(ctx, dir, i) {
		return false, err
	}
	if err := ctx.Err(); err != nil { // then it may have answered all the same
		return false, err
	}
	d.watch.add(a.ID, dir, addressOf(i))
	err = step.Do(ctx, "nfs.abort", func(ctx context.Context) error {
		timer := time.NewTimer(abortWait)
		defer timer.Stop()
		select {
		case err := <-d.watch.abort(a.ID):
			return err
		case <-timer.C:
		case <-ctx.Done():
		}
		return nil
	})
	if err != nil && gone(dir) {
		return false, nil
	}
	return err == nil, err
}

// failsAlone says whether a call on a mount gives EIO when its server is silent: a soft one does, and one whose calls were aborted, be it
// through another mount, since those of one export share what is aborted. Of nil nothing is known.
func (w *watch) failsAlone(i *mountinfo.Info, address string) bool {
	if i == nil || isSoft(i) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.mounts {
		if m.address == address && m.aborting != nil {
			return true
		}
	}
	return false
}

// aborting is a helper that aborts what waits.
type aborting struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// abort begins to abort what waits for a mount, anew when that is done already. The error comes when it ends by itself.
func (w *watch) abort(id mount.ID) <-chan error {
	end := make(chan error, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.mounts[id]
	if m == nil || m.leaving > 0 || w.ctx.Err() != nil {
		end <- nil
		return end
	}
	ctx, cancel := context.WithCancel(w.ctx)
	before, now := m.aborting, &aborting{cancel, make(chan struct{})}
	m.aborting = now
	go func() {
		defer close(now.ended)
		defer cancel()
		before.stop()
		end <- w.helper.Abort(ctx, m.dir, abortFor)
	}()
	return end
}

// stop may be called of nil.
func (a *aborting) stop() {
	if a != nil {
		a.cancel()
		<-a.ended
	}
}
