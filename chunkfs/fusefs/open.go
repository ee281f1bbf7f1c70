package fusefs

import (
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// settings are what the kernel said at the beginning. A server that goes on with another's descriptor does not hear it, and then answers
// opens one by one, which is as right.
type settings struct{ noOpen, noOpenDir atomic.Bool }

// Init learns whether opens can be left out.
func (f *fs) Init(server *fuse.Server) { f.Kernel(server.KernelSettings().Flags64()) }

// Kernel is Init for a server that is not go-fuse's: flags are those of the kernel's INIT.
func (f *fs) Kernel(flags uint64) {
	f.settings.noOpen.Store(flags&fuse.CAP_NO_OPEN_SUPPORT != 0)
	f.settings.noOpenDir.Store(flags&fuse.CAP_NO_OPENDIR_SUPPORT != 0)
}

// Open makes no state. ENOSYS tells a kernel that knows it to open files by itself from now on, with all that is set here.
func (f *fs) Open(_ <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if input.Flags&unix.O_ACCMODE != unix.O_RDONLY || input.Flags&unix.O_TRUNC != 0 {
		return fuse.EROFS
	}
	if _, code := f.inode(input.NodeId); !code.Ok() {
		return code
	}
	if f.settings.noOpen.Load() {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// OpenDir is Open for directories, of which the kernel keeps what it has listed.
func (f *fs) OpenDir(_ <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if _, code := f.inode(input.NodeId); !code.Ok() {
		return code
	}
	if f.settings.noOpenDir.Load() {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

// Release has nothing to release.
func (f *fs) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// ReleaseDir neither.
func (f *fs) ReleaseDir(*fuse.ReleaseIn) {}

// Forget has nothing to forget.
func (f *fs) Forget(uint64, uint64) {}

// OnUnmount has nothing to end.
func (f *fs) OnUnmount() {}

// SetDebug is not needed: the server prints requests.
func (f *fs) SetDebug(bool) {}
