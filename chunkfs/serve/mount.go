package serve

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// mount is an image that is served, or that the kernel reads from the cache by itself.
type mount struct {
	rec      *record
	began    time.Time
	img      *cache.Image
	origins  *origin.Set  // nil in mode direct
	dev      *lazy.Device // nil in mode direct
	accesses *accesses
	trace    func() (*format.Trace, error) // fetches it, once
	file     *deviceFile                   // in mode lazy
	fuse     *conn                         // in mode fuse
	metadata *os.File                      // what that reads
	isDirect bool                          // the cache knows that the kernel reads the image by itself
	end      context.CancelFunc            // ends what goes on in the background
	work     sync.WaitGroup                // that
}

func (m *mount) opened(place control.Place) control.Opened {
	o := control.Opened{Image: m.rec.Image, Mode: m.rec.Mode, Metadata: m.img.MetadataPath(), Device: m.img.DataPath()}
	if m.file != nil {
		o.Device = devicePath(place, m.rec.Open.ID)
	}
	return o
}

// begin opens the image and, unless the kernel can have all of it at once, its device. rec learns image and mode. What it began it has
// undone when there is an error.
func (s *server) begin(ctx context.Context, rec *record) (_ *mount, err error) {
	background, end := context.WithCancel(context.Background())
	m := &mount{rec: rec, began: time.Now(), end: end, accesses: newAccesses()}
	begun := m // a return of nil changes m
	defer func() {
		if err != nil {
			begun.release()
		}
	}()
	if m.origins, err = s.origins(&rec.Open); err != nil {
		return nil, err
	}
	d := rec.Image
	if d.IsZero() {
		if d, m.img, err = s.resolve(ctx, &rec.Open, m.origins); err != nil {
			return nil, err
		}
	}
	m.trace = sync.OnceValues(func() (*format.Trace, error) { return m.fetchTrace(background, d) })
	if m.img == nil {
		if m.img, err = s.image(ctx, m, d); err != nil {
			return nil, err
		}
	}
	rec.Image = d
	if rec.Open.Pin && !m.img.Pinned() {
		if err := m.img.SetPin(true); err != nil {
			return nil, err
		}
	}
	if rec.Mode == "" {
		if rec.Mode, err = s.choose(ctx, m); err != nil {
			return nil, err
		}
	}
	if err := m.setDirect(rec.Mode == control.Direct); err != nil {
		return nil, err
	}
	if m.isDirect {
		return m, nil
	}
	if err := m.openDevice(s); err != nil {
		return nil, err
	}
	m.work.Go(func() { m.prefetch(background, s.log) })
	return m, nil
}

func (m *mount) openDevice(s *server) (err error) {
	m.dev, err = lazy.Open(lazy.Config{Image: m.img, Origins: m.origins, Sharing: s.sharing, Verify: m.rec.Open.Verify, Log: s.log})
	return err
}

// choose settles the mode.
func (s *server) choose(ctx context.Context, m *mount) (control.Mode, error) {
	o := &m.rec.Open
	switch {
	case o.Mode == control.Direct:
		return control.Direct, s.complete(ctx, m)
	case o.Mode == control.Lazy || o.Mode == control.FUSE:
		return o.Mode, nil
	case o.Kernel == "":
		return control.FUSE, nil
	}
	// Set before it is asked, or a chunk could be evicted in between.
	if err := m.setDirect(true); err != nil {
		return "", err
	}
	if m.img.Complete() {
		return control.Direct, nil
	}
	return control.Lazy, nil
}

// completeTick is how often it is looked whether an image is complete, when somebody waits for that.
const completeTick = 20 * time.Millisecond

// complete fetches all of an image and verifies what was there.
func (s *server) complete(ctx context.Context, m *mount) error {
	if err := m.setDirect(true); err != nil { // so that nothing of it goes while the rest comes
		return err
	}
	if err := m.img.VerifyAll(ctx); err == nil || !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := m.openDevice(s); err != nil {
		return err
	}
	defer func() {
		m.dev.Close()
		m.dev = nil
	}()
	m.dev.Complete()
	tick := time.NewTicker(completeTick)
	defer tick.Stop()
	for !m.dev.IsComplete() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("fetch all of image %s (%d of %d bytes are there): %w", m.img.Digest(), m.img.Cached(), m.img.Size(), context.Cause(ctx))
		case <-tick.C:
		}
		// It is not waited for origins to be mended: whoever can do that has to be told.
		if err := m.dev.Damaged(); err != nil {
			return fmt.Errorf("fetch all of image %s: %w", m.img.Digest(), err)
		}
		if m.dev.Full() && !m.img.Complete() {
			return fault.Hintf(fault.New(fault.Unavailable, "image %s does not fit the cache", m.img.Digest()),
				"give the cache more room, or choose the mode lazy")
		}
	}
	return nil
}

// setDirect tells the cache whether the kernel reads the image by itself.
func (m *mount) setDirect(on bool) error {
	if on == m.isDirect {
		return nil
	}
	if err := m.img.SetDirect(on); err != nil {
		return err
	}
	m.isDirect = on
	return nil
}

// traceTimeout bounds fetching a trace: nobody waits for it, but what comes after it does.
const traceTimeout = 20 * time.Second

// prefetch fetches what the mount asks for ahead of its readers, and finds out what of it the cache has.
func (m *mount) prefetch(ctx context.Context, log *logrus.Logger) {
	o := &m.rec.Open
	if m.wantsTrace() {
		if tr, err := m.trace(); err == nil {
			m.dev.Replay(tr)
		} else if !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			log.WithError(err).WithField("mount", o.ID).Warn("no trace to replay")
		}
	}
	if o.Prefetch == control.PrefetchAll && ctx.Err() == nil {
		m.dev.Complete()
	}
	if o.Verify && !m.anyMissing() {
		_ = m.img.VerifyAll(ctx) // so that the next mount can be direct; it says no more than Complete will
	}
}

// anyMissing reports whether something has to be fetched for sure.
func (m *mount) anyMissing() bool {
	for i := range m.img.Index().Extents {
		if m.img.State(i) == cache.Missing {
			return true
		}
	}
	return false
}

func (m *mount) wantsTrace() bool {
	return m.rec.Open.Prefetch == control.PrefetchTrace || m.rec.Open.Prefetch == control.PrefetchAll
}

func (m *mount) fetchTrace(ctx context.Context, image format.Digest) (*format.Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	role := m.rec.Open.Role
	if role == "" {
		role = defaultRole
	}
	b, err := m.origins.Trace(ctx, image, role)
	if err != nil {
		return nil, err
	}
	return format.DecodeTrace(b)
}

// defaultRole is the role of a trace when none is said.
const defaultRole = "boot"

// release gives up image, device and origins. Nothing of the mount may be read any more.
func (m *mount) release() {
	m.end()
	if m.dev != nil {
		m.dev.Close()
	}
	m.work.Wait()
	if m.origins != nil {
		m.origins.Close()
	}
	if m.img != nil {
		_ = m.setDirect(false)
		m.img.Release()
	}
}
