// Package fusefs shows an image as a FUSE file system: the pure mode, for kernels that cannot mount EROFS and for tests everywhere.
//
// It turns requests of the kernel into looks at the metadata and reads of the data device, and keeps nothing of them: a node id is made
// of the inode's number, so that another server can go on with the same descriptor, and the kernel caches all the rest for good. It
// never mounts, never fetches, and never answers with bytes that the device has not given.
package fusefs

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Device is the data device: lazy.Device, or one in memory in tests. Read waits until the bytes are there and verified; it gives n of
// them, less only at the end of the device. It returns when ctx ends.
type Device interface {
	Read(ctx context.Context, off int64, n int) (lazy.Span, error)
}

// Options of a file system.
type Options struct {
	// OnRead is told of every read that was answered: the inode, and the bytes given. It is called from many goroutines; nil: nobody.
	OnRead func(nid uint64, bytes int)
}

// forever is how long the kernel may keep what it was told: an image does not change.
const forever = 365 * 24 * time.Hour

// fs embeds go-fuse's answers, ENOSYS, to what is never asked of a file system such as this.
type fs struct {
	fuse.RawFileSystem
	img      *erofs.Image
	dev      Device
	onRead   func(nid uint64, bytes int)
	settings settings
}

// New makes a file system of an image and its data device. It serves until both are closed by their owner, which is after the last
// request. A mount wants the options of MountOptions.
func New(img *erofs.Image, dev Device, o Options) fuse.RawFileSystem {
	f := &fs{RawFileSystem: fuse.NewDefaultRawFileSystem(), img: img, dev: dev, onRead: o.OnRead}
	if f.onRead == nil {
		f.onRead = func(uint64, int) {}
	}
	return f
}

// MountOptions are those under which the kernel asks least: it checks permissions and ACLs itself, and keeps pages, targets and
// directories until they are forgotten. The caller adds names and flags of the mount.
func MountOptions() *fuse.MountOptions {
	return &fuse.MountOptions{
		AllowOther:               true,
		Options:                  []string{"ro", "default_permissions"},
		MaxWrite:                 1 << 20, // it is max_read, too
		MaxBackground:            64,
		EnableAcl:                true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true, // a reply is in memory already
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_HAS_RESEND,
		DirectMountStrict:        true,
		DirectMountFlags:         unix.MS_RDONLY,
	}
}

func (f *fs) String() string { return "windlass" }

// Node ids: the root has FUSE's own, and everything else one that follows from its nid.
const firstNode = fuse.FUSE_ROOT_ID + 1

func (f *fs) nid(node uint64) uint64 {
	if node == fuse.FUSE_ROOT_ID {
		return f.img.Root()
	}
	return node - firstNode
}

func (f *fs) node(nid uint64) uint64 {
	if nid == f.img.Root() {
		return fuse.FUSE_ROOT_ID
	}
	return nid + firstNode
}

// inode reads the inode of a node. A node id that none can have is stale.
func (f *fs) inode(node uint64) (erofs.Inode, fuse.Status) {
	if node == 0 {
		return erofs.Inode{}, fuse.Status(syscall.ESTALE)
	}
	in, err := f.img.Inode(f.nid(node))
	if fault.Is(err, fault.Corrupt) {
		return in, fuse.Status(syscall.ESTALE)
	}
	return in, status(err)
}

// status is the errno of an error of the metadata.
func status(err error) fuse.Status {
	switch {
	case err == nil:
		return fuse.OK
	case fault.Is(err, fault.NotFound):
		return fuse.ENOENT
	case fault.Is(err, fault.Invalid):
		return fuse.EINVAL
	}
	return fuse.EIO
}
