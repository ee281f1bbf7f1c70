package serve

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/lazy"
)

// device is what a device file shows.
type device interface {
	Read(ctx context.Context, off int64, n int) (lazy.Span, error)
	Size() int64
}

// rootNode is FUSE's number of the root directory; those of device files come after it.
const rootNode = fuse.FUSE_ROOT_ID

// forever is how long the kernel may keep what it was told: a device file never changes.
const forever = 365 * 24 * time.Hour

// devices is the file system of device files: one directory, in it a file a mount of mode lazy, named by the ID of that mount.
//
// Nothing in it depends on what an earlier process told the kernel: nodes have the numbers of the records, files are not opened (the
// kernel is told that there is no open), nothing is counted.
type devices struct {
	fuse.RawFileSystem

	mu    sync.RWMutex
	nodes map[uint64]*deviceFile
	names map[string]*deviceFile
}

// deviceFile is a file whose device may still be on its way: readers wait for it.
type deviceFile struct {
	node      uint64
	name      string
	forgotten chan struct{} // closed when the kernel does not know the node any more
	asked     bool          // the kernel has been asked to forget it; of who has the turn of the mount

	ready chan struct{} // closed when dev is set
	dev   device        // nil when it was given up
}

func newDevices() *devices {
	return &devices{RawFileSystem: fuse.NewDefaultRawFileSystem(), nodes: map[uint64]*deviceFile{}, names: map[string]*deviceFile{}}
}

// expect makes a file whose device comes later: settle gives it.
func (d *devices) expect(node uint64, name string) *deviceFile {
	f := &deviceFile{node: node, name: name, forgotten: make(chan struct{}), ready: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes[node], d.names[name] = f, f
	return f
}

func (f *deviceFile) settle(dev device) {
	f.dev = dev
	close(f.ready)
}

func (d *devices) remove(f *deviceFile) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, f.node)
	delete(d.names, f.name)
}

// wait gives the device once it is there.
func (f *deviceFile) wait(cancel <-chan struct{}) (device, fuse.Status) {
	if f == nil {
		return nil, fuse.Status(unix.ESTALE)
	}
	select {
	case <-f.ready:
	default:
		select {
		case <-f.ready:
		case <-cancel:
			return nil, fuse.EINTR
		}
	}
	if f.dev == nil {
		return nil, fuse.EIO
	}
	return f.dev, fuse.OK
}

func (d *devices) node(node uint64) *deviceFile {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.nodes[node]
}

func (d *devices) named(name string) *deviceFile {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.names[name]
}

// Forget comes when nobody has the file open any more and the kernel has dropped what it kept of it.
func (d *devices) Forget(node, _ uint64) {
	if f := d.node(node); f != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		select {
		case <-f.forgotten:
		default:
			close(f.forgotten)
		}
	}
}

func (d *devices) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	d.mu.Lock()
	f := d.names[name]
	if f != nil {
		select {
		case <-f.forgotten: // and known again from now on
			f.forgotten = make(chan struct{})
		default:
		}
	}
	d.mu.Unlock()
	if f == nil || in.NodeId != rootNode {
		return fuse.ENOENT
	}
	dev, st := f.wait(cancel)
	if !st.Ok() {
		return st
	}
	out.NodeId, out.Generation = f.node, 1
	out.SetAttrTimeout(forever) // and none for the entry: when the mount is closed, it is gone at once
	d.attr(f.node, dev, &out.Attr)
	return fuse.OK
}

func (d *devices) attr(node uint64, dev device, a *fuse.Attr) {
	a.Ino, a.Nlink, a.Blksize = node, 1, 4096 // of time 0: whichever server answers says the same
	if dev == nil {
		a.Mode, a.Nlink = unix.S_IFDIR|0o500, 2
		return
	}
	a.Mode = unix.S_IFREG | 0o400
	a.Size = uint64(dev.Size())
	a.Blocks = a.Size / 512
}

func (d *devices) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(forever)
	if in.NodeId == rootNode {
		d.attr(rootNode, nil, &out.Attr)
		return fuse.OK
	}
	dev, st := d.node(in.NodeId).wait(cancel)
	if st.Ok() {
		d.attr(in.NodeId, dev, &out.Attr)
	}
	return st
}

// Open tells the kernel never to ask: without it a file has no state here.
func (d *devices) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

func (d *devices) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	dev, st := d.node(in.NodeId).wait(cancel)
	if !st.Ok() {
		return nil, st
	}
	span, err := dev.Read(cancelled{cancel}, int64(in.Offset), int(in.Size))
	if err != nil {
		select {
		case <-cancel:
			return nil, fuse.EINTR
		default:
			return nil, fuse.EIO
		}
	}
	return spanResult(span), fuse.OK
}

func (d *devices) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (d *devices) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	// By number: a reader whose server died between two requests goes on behind the last one that it has.
	for _, f := range d.behind(in.Offset) {
		e := fuse.DirEntry{Mode: unix.S_IFREG, Name: f.name, Ino: f.node, Off: f.node}
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// behind lists the files after a node, in order.
func (d *devices) behind(last uint64) []*deviceFile {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var files []*deviceFile
	for node, f := range d.nodes {
		if node > last {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *deviceFile) int { return cmp.Compare(a.node, b.node) })
	return files
}

func (d *devices) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 20
	return fuse.OK
}

func (d *devices) String() string { return "chunkfs" }

// cancelled is a context that ends with a FUSE request.
type cancelled struct{ cancel <-chan struct{} }

func (cancelled) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c cancelled) Done() <-chan struct{}     { return c.cancel }
func (cancelled) Value(any) any               { return nil }

func (c cancelled) Err() error {
	select {
	case <-c.cancel:
		return context.Canceled
	default:
		return nil
	}
}
