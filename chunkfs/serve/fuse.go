package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/fusefs"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// Requests of one connection under way at once: enough for all read-ahead, and readers beside it.
const (
	dataSlots = 2048
	fuseSlots = 512
)

// connName is what the keeper calls the connection of a mount of mode fuse.
func connName(id string) string { return "fuse." + id }

// openFS opens the metadata and makes the file system of mode fuse.
func (m *mount) openFS() (*conn, error) {
	f, err := os.Open(m.img.MetadataPath())
	if err != nil {
		return nil, err
	}
	m.metadata = f
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	img, err := erofs.Open(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("metadata of image %s: %w", m.rec.Image, err)
	}
	fs := fusefs.New(img, m.dev, fusefs.Options{OnRead: m.accesses.inode})
	return newConn(connName(m.rec.Open.ID), fs, true), nil
}

// mountFUSE mounts at the target. What it began stays when there is an error: unmountFUSE takes it away.
func (s *server) mountFUSE(ctx context.Context, m *mount) error {
	c, err := m.openFS()
	if err != nil {
		return err
	}
	mnt, err := c.open(ctx, fuseSlots, unix.MOUNT_ATTR_NODEV, s.keeper.Store)
	if err != nil {
		return err
	}
	defer mnt.Close()
	m.fuse = c
	m.rec.Init = c.init
	if err := s.write(ctx, m.rec); err != nil {
		c.serve() // so that it ends
		return err
	}
	c.serve()
	speedUp(mnt)
	return fsmount.Move(ctx, mnt, m.rec.Open.Target)
}

// endTimeout bounds waiting for the kernel to end a connection after the last unmount.
const endTimeout = 3 * time.Second

// unmountFUSE unmounts the target, where that is ours still, and closes the connection: Busy while somebody uses it, also elsewhere.
func (s *server) unmountFUSE(ctx context.Context, m *mount) error {
	if ours(m.rec.Open.Target) {
		if err := fsmount.Unmount(ctx, m.rec.Open.Target); err != nil {
			return err
		}
	}
	name := connName(m.rec.Open.ID)
	if m.fuse != nil {
		select {
		case <-m.fuse.ended:
		case <-time.After(endTimeout):
			return fault.Hintf(fault.New(fault.Busy, "mount %s is not mounted at %s any more and is in use all the same", m.rec.Open.ID, m.rec.Open.Target),
				"a process has something of it open, or has it mounted in another mount namespace; end it and try again")
		}
		m.fuse.close()
		m.fuse = nil
	}
	if m.metadata != nil {
		m.metadata.Close()
		m.metadata = nil
	}
	return s.drop(name)
}

// drop has the keeper forget a connection.
func (s *server) drop(conn string) error {
	return errors.Join(s.keeper.Drop(conn), s.keeper.Drop(journalName(conn)))
}

// ours reports whether a mount of ours, of mode fuse or of the device files, is what one sees at dir.
func ours(dir string) bool {
	info, err := fsmount.At(dir)
	return err == nil && info != nil && info.FSType == "fuse.chunkfs"
}
