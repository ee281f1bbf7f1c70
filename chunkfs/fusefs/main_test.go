package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/chunkfs/fusefs"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
)

// device is a data device in memory, or in a file.
type device struct {
	data  []byte
	file  *os.File // nil: spans have Bytes
	short int      // 0, or the most that a span has

	mu   sync.Mutex
	fail error         // of every read
	wait chan struct{} // reads wait for its end

	reads   atomic.Int64
	waiting chan context.Context // told of reads that wait
}

var errDevice = errors.New("the device has failed")

func (d *device) set(fail error, wait chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.wait = fail, wait
}

func (d *device) Read(ctx context.Context, off int64, n int) (lazy.Span, error) {
	d.reads.Add(1)
	d.mu.Lock()
	fail, wait := d.fail, d.wait
	d.mu.Unlock()
	if fail != nil {
		return lazy.Span{}, fail
	}
	if wait != nil {
		d.waiting <- ctx
		select {
		case <-wait:
		case <-ctx.Done():
			return lazy.Span{}, ctx.Err()
		}
	}
	n = max(min(n, len(d.data)-int(off)), 0)
	if d.short > 0 {
		n = min(n, d.short)
	}
	if d.file != nil {
		return lazy.Span{Fd: int(d.file.Fd()), Offset: off, Size: n}, nil
	}
	return lazy.Span{Fd: -1, Size: n, Bytes: d.data[min(off, int64(len(d.data))):][:n]}, nil
}

// counter counts the requests of the kernel.
type counter struct {
	fuse.RawFileSystem
	lookups, attrs, lists, opens, reads, targets atomic.Int64
}

func (c *counter) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.lookups.Add(1)
	return c.RawFileSystem.Lookup(cancel, h, name, out)
}

func (c *counter) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.attrs.Add(1)
	return c.RawFileSystem.GetAttr(cancel, in, out)
}

func (c *counter) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.lists.Add(1)
	return c.RawFileSystem.ReadDirPlus(cancel, in, out)
}

func (c *counter) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.lists.Add(1)
	return c.RawFileSystem.ReadDir(cancel, in, out)
}

func (c *counter) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.opens.Add(1)
	return c.RawFileSystem.Open(cancel, in, out)
}

func (c *counter) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.opens.Add(1)
	return c.RawFileSystem.OpenDir(cancel, in, out)
}

func (c *counter) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.reads.Add(1)
	return c.RawFileSystem.Read(cancel, in, buf)
}

func (c *counter) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	c.targets.Add(1)
	return c.RawFileSystem.Readlink(cancel, h)
}

func (c *counter) all() []int64 {
	return []int64{c.lookups.Load(), c.attrs.Load(), c.lists.Load(), c.opens.Load(), c.reads.Load(), c.targets.Load()}
}

// sample gives the tree of erofstest, as an image and a device.
func sample(t testing.TB) (*erofstest.Sample, *erofs.Image, *device) {
	t.Helper()
	s := erofstest.New()
	var b bytes.Buffer
	if _, err := erofs.Write(&b, s.Root, s.Options()); err != nil {
		t.Fatal(err)
	}
	img, err := erofs.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return s, img, &device{data: s.Data, waiting: make(chan context.Context, 100)}
}

// inFile puts the device's bytes into a file, as a cache has them.
func (d *device) inFile(t testing.TB) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(d.data); err != nil {
		t.Fatal(err)
	}
	d.file = f
}

// mount serves a file system at a new directory until the test ends.
func mount(t testing.TB, fs fuse.RawFileSystem) string {
	t.Helper()
	target, o := t.TempDir(), fusefs.MountOptions()
	o.FsName, o.Name = "test", "windlass"
	server, err := fuse.NewServer(fs, target, o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		server.Serve()
		close(served)
	}()
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		<-served
	})
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	return target
}
