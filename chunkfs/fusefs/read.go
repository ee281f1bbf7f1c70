package fusefs

import (
	"errors"
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Read gives all that was asked for, up to the end of the file, or an error: the kernel takes less for the end and makes the rest zeros.
// An error is of this read alone. buf is as large as what was asked for.
func (f *fs) Read(cancel <-chan struct{}, input *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	in, code := f.inode(input.NodeId)
	switch {
	case !code.Ok():
		return nil, code
	case in.Mode&unix.S_IFMT == unix.S_IFDIR:
		return nil, fuse.Status(unix.EISDIR)
	case in.Mode&unix.S_IFMT != unix.S_IFREG || input.Offset > math.MaxInt64:
		return nil, fuse.EINVAL
	}
	off := int64(input.Offset)
	buf = buf[:max(min(int64(len(buf)), int64(input.Size), in.Size-off), 0)]
	ctx := newRequest(cancel, input.Pid)
	defer ctx.end()
	for done := 0; done < len(buf); {
		n, err := f.readRun(ctx, in.Nid, off+int64(done), buf[done:])
		if err != nil {
			return nil, readStatus(ctx, err)
		}
		done += n
	}
	f.onRead(in.Nid, len(buf))
	if len(buf) == 0 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return fuse.ReadResultVector([][]byte{buf}), fuse.OK
}

// readStatus keeps what went wrong from programs that know EIO alone; the device has said it to those who want to know.
func readStatus(ctx *request, err error) fuse.Status {
	if ctx.Err() != nil || errors.Is(err, unix.EINTR) {
		return fuse.EINTR
	}
	return fuse.EIO
}

// readRun fills the beginning of b with one run of a file, and gives how much that is.
func (f *fs) readRun(ctx *request, nid uint64, off int64, b []byte) (int, error) {
	run, err := f.img.Map(nid, off)
	if err != nil {
		return 0, err
	}
	if run.Size <= 0 {
		return 0, fault.New(fault.Corrupt, "inode %d of the image ends at %d, before its size", nid, off)
	}
	b = b[:min(int64(len(b)), run.Size)]
	switch {
	case run.Data != nil:
		return copy(b, run.Data), nil
	case run.Device < 0:
		clear(b)
		return len(b), nil
	}
	return f.readDevice(ctx, run, b)
}

// readDevice fills b. The span is given back before the reply goes out, so that nothing is held for the kernel's sake.
func (f *fs) readDevice(ctx *request, run erofs.Run, b []byte) (int, error) {
	span, err := f.dev.Read(ctx, run.Device, len(b))
	if err != nil {
		return 0, err
	}
	defer span.Release()
	n := min(span.Size, len(b))
	if span.Fd < 0 {
		n = copy(b[:n], span.Bytes)
	} else if n, err = preadFull(span.Fd, b[:n], span.Offset); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fault.New(fault.Corrupt, "the data device ends before %d", run.Device)
	}
	return n, nil
}

// preadFull reads all of b, or less where the file ends.
func preadFull(fd int, b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pread(fd, b[done:], off+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return done, err
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// Whence of Lseek, as in lseek(2).
const (
	seekData = 3
	seekHole = 4
)

// Lseek finds data and holes; the kernel does all other seeking.
func (f *fs) Lseek(cancel <-chan struct{}, input *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	in, code := f.inode(input.NodeId)
	switch {
	case !code.Ok():
		return code
	case in.Mode&unix.S_IFMT != unix.S_IFREG || input.Whence != seekData && input.Whence != seekHole:
		return fuse.EINVAL
	case input.Offset >= uint64(in.Size):
		return fuse.Status(unix.ENXIO)
	}
	for off := int64(input.Offset); off < in.Size; {
		run, err := f.img.Map(in.Nid, off)
		if err != nil || run.Size <= 0 {
			return fuse.EIO
		}
		if hole := run.Device < 0 && run.Data == nil; hole == (input.Whence == seekHole) {
			out.Offset = uint64(off)
			return fuse.OK
		}
		select {
		case <-cancel:
			return fuse.EINTR
		default:
		}
		off += run.Size
	}
	if input.Whence == seekHole {
		out.Offset = uint64(in.Size)
		return fuse.OK
	}
	return fuse.Status(unix.ENXIO)
}
