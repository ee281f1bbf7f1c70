package serve

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
)

// accesses is what was read of one mount, to be told file by file. Reads of the data device are written down as they come, and counted by
// file only when somebody asks or they have become many: finding the files takes a walk through the metadata.
type accesses struct {
	mu     sync.Mutex
	began  time.Time
	log    []access
	files  map[uint64]*fileAccess // by inode
	traced map[uint64]int64       // inodes by when they were first read since the trace began; nil while there is none
	full   bool                   // more was read than is kept
}

// access is a run of reads of the data device, one behind the other.
type access struct {
	off, size int64
	reads     int32
	at        int64 // nanoseconds after the mount
}

type fileAccess struct {
	reads, bytes int64
	first, last  int64 // nanoseconds after the mount
}

// Bounds of what is kept: about 8 MiB and 16 MiB.
const (
	maxLog   = 1 << 18
	maxFiles = 1 << 18
)

func newAccesses() *accesses {
	return &accesses{began: time.Now(), files: map[uint64]*fileAccess{}}
}

// device notes a read of the data device.
func (a *accesses) device(off int64, n int) {
	at := int64(time.Since(a.began))
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.log) > 0 {
		if last := &a.log[len(a.log)-1]; last.off+last.size == off {
			last.size += int64(n)
			last.reads++
			return
		}
	}
	if len(a.log) < maxLog {
		a.log = append(a.log, access{off, int64(n), 1, at})
	} else {
		a.full = true
	}
}

// inode notes a read of a file.
func (a *accesses) inode(nid uint64, n int) {
	at := int64(time.Since(a.began))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(nid, 1, int64(n), at)
}

// count adds to a file. The caller has mu.
func (a *accesses) count(nid uint64, reads, bytes, at int64) {
	f := a.files[nid]
	if f == nil {
		if len(a.files) >= maxFiles {
			a.full = true
			return
		}
		f = &fileAccess{first: at}
		a.files[nid] = f
	}
	f.reads += reads
	f.bytes += bytes
	f.last = at
	if a.traced != nil {
		if _, ok := a.traced[nid]; !ok {
			a.traced[nid] = at
		}
	}
}

// fold counts what is in the log by file.
func (a *accesses) fold(layout *layout) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.log {
		layout.files(r.off, r.size, func(nid uint64, bytes int64) { a.count(nid, int64(r.reads), bytes, r.at) })
	}
	a.log = a.log[:0]
}

// startTrace begins to note which files are read from now on.
func (a *accesses) startTrace(layout *layout) {
	a.fold(layout)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.traced = map[uint64]int64{}
}

// stopTrace gives the inodes in the order in which they were read first.
func (a *accesses) stopTrace(layout *layout) []uint64 {
	a.fold(layout)
	a.mu.Lock()
	defer a.mu.Unlock()
	nids := make([]uint64, 0, len(a.traced))
	for nid := range a.traced {
		nids = append(nids, nid)
	}
	traced := a.traced
	slices.SortFunc(nids, func(x, y uint64) int {
		return cmp.Or(cmp.Compare(traced[x], traced[y]), cmp.Compare(x, y))
	})
	a.traced = nil
	return nids
}

// list gives what was read, by the first read or, with latest, by the last one, latest first.
func (a *accesses) list(layout *layout, latest bool) []control.File {
	a.fold(layout)
	a.mu.Lock()
	defer a.mu.Unlock()
	type row struct {
		nid uint64
		*fileAccess
	}
	rows := make([]row, 0, len(a.files))
	for nid, f := range a.files {
		rows = append(rows, row{nid, f})
	}
	slices.SortFunc(rows, func(x, y row) int {
		if latest {
			return cmp.Or(cmp.Compare(y.last, x.last), cmp.Compare(x.nid, y.nid))
		}
		return cmp.Or(cmp.Compare(x.first, y.first), cmp.Compare(x.nid, y.nid))
	})
	files := make([]control.File, 0, len(rows))
	for _, r := range rows {
		files = append(files, control.File{Path: layout.path(r.nid), Reads: r.reads, Bytes: r.bytes, First: r.first})
	}
	return files
}
