package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// dataConn is what the keeper calls the connection of the device files.
const dataConn = "data"

// dataInit is the file with the kernel's INIT of that connection. It is there once that is agreed on.
func dataInit(p control.Place) string { return filepath.Join(string(p), "data.init") }

// devicePath is the device file of a mount.
func devicePath(p control.Place, id string) string { return filepath.Join(p.Data(), id) }

// needData mounts the file system of the device files, unless it is mounted.
func (s *server) needData(ctx context.Context) error {
	s.dataTurn.Lock()
	defer s.dataTurn.Unlock()
	if s.data != nil {
		select {
		case <-s.data.ended: // somebody has unmounted it
			s.data.close()
			s.data = nil
		default:
			return nil
		}
	}
	c := newConn(dataConn, s.devices, false)
	mnt, err := c.open(ctx, dataSlots, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, s.keeper.Store)
	if err != nil {
		return fmt.Errorf("mount the device files: %w", err)
	}
	defer mnt.Close()
	c.serve()
	if err = durable.WriteFile(ctx, dataInit(s.place), c.init, 0o600); err == nil {
		speedUp(mnt)
		err = fsmount.Move(ctx, mnt, s.place.Data())
	}
	if err != nil {
		mnt.Close()
		<-c.ended
		c.close()
		return errors.Join(fmt.Errorf("mount the device files: %w", err), durable.Remove(context.WithoutCancel(ctx), dataInit(s.place)), s.drop(dataConn))
	}
	s.data = c
	return nil
}

// takeUpData goes on with the device files of an earlier server. What cannot be gone on with is taken away: nobody can use it.
func (s *server) takeUpData() error {
	fd, journal := s.keeper.Stored()[dataConn], s.keeper.Stored()[journalName(dataConn)]
	init, err := os.ReadFile(dataInit(s.place))
	if err == nil && fd != nil && journal != nil {
		c := newConn(dataConn, s.devices, false)
		if err = c.takeOver(fd, journal, init); err == nil {
			s.data = c
			c.serve()
			return nil
		}
		s.log.WithError(err).Warn("the device files are lost")
	}
	return s.endData()
}

// endData takes the file system of the device files away, at the end or because nobody can serve it any more. It is not waited for those
// who use it: their mounts are gone. The kernel ends the connection with the last descriptor.
func (s *server) endData() error {
	var err error
	if ours(s.place.Data()) {
		err = unix.Unmount(s.place.Data(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return errors.Join(err, s.drop(dataConn), durable.Remove(context.Background(), dataInit(s.place)))
}

// unusedTimeout bounds waiting for the kernel to let go of a device file: a loop device lets go a little after its unmount.
const unusedTimeout = 3 * time.Second

// awaitUnused waits until nobody has a device file open: Busy when somebody goes on to. The kernel is asked to forget the file, which it
// does, and says, when it is closed.
func (s *server) awaitUnused(ctx context.Context, f *deviceFile) error {
	s.devices.mu.RLock()
	forgotten := f.forgotten
	s.devices.mu.RUnlock()
	s.dataTurn.Lock()
	data := s.data
	s.dataTurn.Unlock()
	if data == nil || !data.forgetEntry(rootNode, f.name) && !f.asked {
		return nil // the kernel has never heard of it
	}
	f.asked = true
	select {
	case <-forgotten:
		return nil
	case <-ctx.Done():
	case <-time.After(unusedTimeout):
	}
	return fault.Hintf(fault.New(fault.Busy, "device file %s is in use", devicePath(s.place, f.name)),
		"unmount what is mounted from it, in every mount namespace, and try again")
}

// forgetEntry has the kernel drop a name, and its node as soon as nobody uses that; false when it does not know the name.
func (c *conn) forgetEntry(parent uint64, name string) bool {
	const invalEntry = 3 // FUSE_NOTIFY_INVAL_ENTRY
	b := make([]byte, 0, outHeader+16+len(name)+1)
	b = binary.NativeEndian.AppendUint32(b, uint32(cap(b)))
	b = binary.NativeEndian.AppendUint32(b, invalEntry)
	b = binary.NativeEndian.AppendUint64(b, 0)
	b = binary.NativeEndian.AppendUint64(b, parent)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(append(b, name...), 0)
	_, err := unix.Write(c.fd, b)
	return err == nil
}

// counted is a device whose reads are written down.
type counted struct {
	*lazy.Device
	accesses *accesses
}

func (m *mount) device() device { return counted{m.dev, m.accesses} }

// Read is Device.Read.
func (c counted) Read(ctx context.Context, off int64, n int) (lazy.Span, error) {
	span, err := c.Device.Read(ctx, off, n)
	if err == nil {
		c.accesses.device(off, span.Size)
	}
	return span, err
}
