package serve

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// layout says which files lie where on the data device, and what they are called. It is made when it is needed and then forgotten: that of
// 100,000 files takes some 10 MB.
type layout struct {
	pieces []piece // by place
	names  map[uint64]name
	root   uint64
}

// piece is where a part of a file lies on the device. Files with the same content lie at the same place; the first one in the walk counts.
type piece struct {
	off, size int64
	nid       uint64
}

// name is one name of an inode: the first one in the walk.
type name struct {
	dir  uint64
	name string
}

// maxPieces bounds a layout, whatever the metadata says; files beyond it are not told apart.
const maxPieces = 1 << 22

func readLayout(img *cache.Image) (*layout, error) {
	f, err := os.Open(img.MetadataPath())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tree, err := erofs.Open(f, info.Size())
	if err != nil {
		return nil, err
	}
	l := &layout{names: map[uint64]name{}, root: tree.Root()}
	if err := l.walk(tree); err != nil {
		return nil, fmt.Errorf("look for the files of image %s: %w", img.Digest(), err)
	}
	slices.SortStableFunc(l.pieces, func(a, b piece) int { return cmp.Compare(a.off, b.off) })
	l.pieces = slices.CompactFunc(l.pieces, func(a, b piece) bool { return a.off == b.off && a.size == b.size })
	return l, nil
}

// walk visits every directory once, however often hostile metadata names it.
func (l *layout) walk(tree *erofs.Image) error {
	queue := []uint64{l.root}
	seen := map[uint64]bool{l.root: true}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		var files []uint64
		err := tree.ReadDir(dir, 0, func(_ int, entry string, nid uint64, typ uint32) bool {
			if entry == "." || entry == ".." || seen[nid] {
				return true
			}
			seen[nid] = true
			switch typ & unix.S_IFMT {
			case unix.S_IFDIR:
				queue = append(queue, nid)
			case unix.S_IFREG:
				files = append(files, nid)
			default:
				return true
			}
			l.names[nid] = name{dir, entry}
			return int64(len(l.names)) <= tree.Inodes()
		})
		if err != nil {
			return err
		}
		for _, nid := range files {
			if err := l.add(tree, nid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *layout) add(tree *erofs.Image, nid uint64) error {
	for off := int64(0); len(l.pieces) < maxPieces; {
		run, err := tree.Map(nid, off)
		if err != nil {
			return err
		}
		if run.Size <= 0 {
			return nil
		}
		off += run.Size
		if run.Device < 0 {
			continue
		}
		if n := len(l.pieces); n > 0 && l.pieces[n-1].nid == nid && l.pieces[n-1].off+l.pieces[n-1].size == run.Device {
			l.pieces[n-1].size += run.Size
		} else {
			l.pieces = append(l.pieces, piece{run.Device, run.Size, nid})
		}
	}
	return nil
}

// files visits what lies between off and off+size of the device, and how many bytes of it.
func (l *layout) files(off, size int64, visit func(nid uint64, bytes int64)) {
	i := sort.Search(len(l.pieces), func(i int) bool { return l.pieces[i].off+l.pieces[i].size > off })
	for ; i < len(l.pieces) && l.pieces[i].off < off+size; i++ {
		p := l.pieces[i]
		visit(p.nid, min(off+size, p.off+p.size)-max(off, p.off))
	}
}

// path is the path of an inode from the root of the image, without a slash before it, as format.QuotePath writes it.
func (l *layout) path(nid uint64) string {
	p := ""
	for depth := 0; nid != l.root && depth < unix.PathMax; depth++ {
		n, ok := l.names[nid]
		if !ok {
			break
		}
		p = n.name + "/" + p
		nid = n.dir
	}
	p = strings.TrimSuffix(p, "/")
	return format.QuotePath(p)
}

// recordTrace begins to record what is read of a mount.
func (m *mount) recordTrace() error {
	if m.dev == nil {
		return m.unseen()
	}
	l, err := readLayout(m.img)
	if err != nil {
		return err
	}
	m.accesses.startTrace(l)
	m.dev.StartTrace()
	return nil
}

// endTrace ends that.
func (m *mount) endTrace() (*format.Trace, error) {
	if m.dev == nil {
		return nil, m.unseen()
	}
	l, err := readLayout(m.img)
	if err != nil {
		return nil, err
	}
	tr := &format.Trace{Version: format.Version, Image: m.rec.Image, Role: cmp.Or(m.rec.Open.Role, defaultRole)}
	index, seen := m.img.Index(), map[uint32]bool{}
	for _, i := range m.dev.StopTrace() {
		if c := index.Extents[i].Chunk; c != format.Zero && !seen[c] {
			seen[c] = true
			tr.Chunks = append(tr.Chunks, index.Chunks[c].Sum)
		}
	}
	for _, nid := range m.accesses.stopTrace(l) {
		tr.Paths = append(tr.Paths, l.path(nid))
	}
	tr.Chunks = tr.Chunks[:min(len(tr.Chunks), format.MaxTraceChunks)]
	tr.Paths = tr.Paths[:min(len(tr.Paths), format.MaxTracePaths)]
	return tr, nil
}

// fileList tells which files were read.
func (m *mount) fileList(latest bool) ([]control.File, error) {
	if m.dev == nil {
		return nil, m.unseen()
	}
	l, err := readLayout(m.img)
	if err != nil {
		return nil, err
	}
	return m.accesses.list(l, latest), nil
}

func (m *mount) unseen() error {
	return fault.Hintf(fault.New(fault.Unsupported, "image %s is complete and the kernel reads it by itself: nobody sees which files", m.rec.Image),
		"mount it with the mode lazy")
}
