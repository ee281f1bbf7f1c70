package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// takeUp goes on with what an earlier server left: first the kernel's requests are taken again, which then wait for their image, then the
// images are opened, all at once. What was only half done is undone.
func (s *server) takeUp(ctx context.Context) error {
	recs, err := s.records()
	if err != nil {
		return err
	}
	files := map[string]*deviceFile{}
	for _, r := range recs {
		if r.Done && r.Mode == control.Lazy {
			files[r.Open.ID] = s.devices.expect(r.Node, r.Open.ID)
		}
	}
	if err := s.takeUpData(); err != nil {
		return err
	}
	if s.cache, err = cache.Open(cache.Config{Dir: s.cfg.CacheDir, Quota: s.cfg.Quota, Log: s.log}); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, r := range recs {
		if !r.Done {
			s.undo(ctx, r)
			continue
		}
		s.expect(r)
		wg.Go(func() { s.takeUpMount(r, files[r.Open.ID]) })
	}
	wg.Wait()
	s.cache.Settle(s.unreachedDirect(recs)...)
	return s.dropStrays(recs)
}

// unreachedDirect lists the images that the kernel reads from the cache by itself, and that could not be taken up: their chunks must stay.
func (s *server) unreachedDirect(recs []*record) (images []format.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range recs {
		if t := s.seats[r.Open.ID]; r.Done && r.Mode == control.Direct && t != nil && t.pending == r {
			images = append(images, r.Image)
		}
	}
	return images
}

// undo takes back what an earlier server began for an Open that it did not live to answer.
func (s *server) undo(ctx context.Context, r *record) {
	id := r.Open.ID
	var err error
	if len(r.Init) > 0 && ours(r.Open.Target) {
		err = unix.Unmount(r.Open.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // nobody was told of it
	}
	err = errors.Join(err, s.drop(connName(id)), durable.Remove(ctx, s.place.Mount(id)))
	if err != nil {
		s.log.WithError(err).WithField("mount", id).Error("what was half done could not be undone")
	}
}

const (
	// retryPause is how long is waited before an image that could not be opened at the start is tried again.
	retryPause = 500 * time.Millisecond
	// firstTry is how long the server's start waits for origins, and lastTry how long a try in the background may take: meanwhile the
	// mount cannot be closed.
	firstTry = 2 * time.Second
	lastTry  = time.Minute
)

// takeUpMount opens the image of a mount that goes on. When the cache does not have it whole any more it takes the origins; while they do
// not answer, readers wait, and it is tried again in the background.
func (s *server) takeUpMount(r *record, file *deviceFile) {
	limit := firstTry
	try := func() error {
		ctx, cancel := context.WithTimeout(s.ctx, limit)
		defer cancel()
		limit = min(2*limit, lastTry)
		return s.tryTakeUp(ctx, r, file)
	}
	err := try()
	if err == nil {
		return
	}
	s.log.WithError(err).WithField("mount", r.Open.ID).Warn("a mount cannot be taken up yet")
	s.retrying.Go(func() {
		for err != nil && s.ctx.Err() == nil {
			select {
			case <-s.ctx.Done():
			case <-time.After(retryPause):
				err = try()
			}
		}
	})
}

// tryTakeUp does it once. Success it is, too, when somebody has closed the mount meanwhile.
func (s *server) tryTakeUp(ctx context.Context, r *record, file *deviceFile) error {
	t, err := s.enter(ctx, r.Open.ID)
	if err != nil {
		return err
	}
	defer s.leave(r.Open.ID, t)
	defer func() { <-t.turn }()
	if t.pending != r {
		return nil
	}
	m, err := s.begin(ctx, r)
	if err != nil {
		return err
	}
	if r.Mode == control.FUSE {
		if err := s.takeUpFUSE(m); err != nil {
			m.release()
			return err
		}
	}
	if file != nil {
		m.file = file
		file.settle(m.device())
	}
	s.set(t, m)
	return nil
}

// takeUpFUSE goes on with a connection of mode fuse. The kernel has ended it: somebody has unmounted it, and what is left is to be closed.
func (s *server) takeUpFUSE(m *mount) error {
	c, err := m.openFS()
	if err != nil {
		return err
	}
	stored := s.keeper.Stored()
	fd, journal := stored[c.name], stored[journalName(c.name)]
	if fd == nil || journal == nil {
		err = fault.New(fault.NotFound, "the keeper does not have it")
	} else {
		err = c.takeOver(fd, journal, m.rec.Init)
	}
	if fault.Is(err, fault.NotFound) {
		s.log.WithError(err).WithField("mount", m.rec.Open.ID).Error("the mount is lost: unmount it")
		if ours(m.rec.Open.Target) {
			_ = unix.Unmount(m.rec.Open.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		return s.drop(c.name)
	}
	if err != nil {
		return fmt.Errorf("go on with mount %s: %w", m.rec.Open.ID, err)
	}
	m.fuse = c
	c.serve()
	return nil
}

// dropStrays closes what the keeper holds for mounts of which there is no record.
func (s *server) dropStrays(recs []*record) error {
	known := map[string]bool{dataConn: true, journalName(dataConn): true}
	for _, r := range recs {
		known[connName(r.Open.ID)], known[journalName(connName(r.Open.ID))] = true, true
	}
	var errs []error
	for name := range s.keeper.Stored() {
		if !known[name] {
			errs = append(errs, s.keeper.Drop(name))
		}
	}
	return errors.Join(errs...)
}
