package cpio

import (
	"fmt"
	"io"
	"math"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	magic      = "070701"
	magicSum   = "070702" // the same with sums, which nobody checks
	trailer    = "TRAILER!!!"
	headerSize = 110
	align      = 4
	blockSize  = 512 // what archives are filled up to, so that another may follow
)

// Stats says what was written.
type Stats struct {
	Files int   // entries, directories included
	Bytes int64 // of the archive
}

// Write writes the archive of the tree, with one time for all, in seconds since 1970.
func (t *Tree) Write(w io.Writer, mtime uint32) (Stats, error) {
	out := &writer{w: w, mtime: mtime}
	if err := t.check(); err != nil {
		return out.stats, err
	}
	for _, name := range t.Names() {
		e := t.entries[name]
		if err := out.entry(&e); err != nil {
			return out.stats, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	return out.stats, out.end()
}

// writer writes entries one after the other.
type writer struct {
	w     io.Writer
	mtime uint32
	stats Stats
}

func (w *writer) entry(e *Entry) error {
	data, err := e.content()
	if err != nil {
		return err
	}
	if int64(len(data)) > math.MaxUint32 {
		return fault.New(fault.TooLarge, "%d bytes are too many: cpio has 32 bits for them", len(data))
	}
	w.stats.Files++
	if err := w.header(e.Name, [13]uint32{uint32(w.stats.Files), e.Mode, e.UID, e.GID, 1, w.mtime, uint32(len(data)), 0, 0, e.Major, e.Minor}); err != nil {
		return err
	}
	if err := w.write(data); err != nil {
		return err
	}
	return w.fill(align)
}

// header writes what comes before the content. The length of the name is filled in.
func (w *writer) header(name string, fields [13]uint32) error {
	fields[11] = uint32(len(name) + 1)
	text := make([]byte, 0, headerSize+len(name)+1)
	text = append(text, magic...)
	for _, f := range fields {
		text = fmt.Appendf(text, "%08x", f)
	}
	if err := w.write(append(append(text, name...), 0)); err != nil {
		return err
	}
	return w.fill(align)
}

func (w *writer) end() error {
	if err := w.header(trailer, [13]uint32{4: 1}); err != nil {
		return err
	}
	return w.fill(blockSize)
}

// fill writes zeros up to a multiple of n.
func (w *writer) fill(n int64) error {
	return w.write(make([]byte, (n-w.stats.Bytes%n)%n))
}

func (w *writer) write(p []byte) error {
	n, err := w.w.Write(p)
	w.stats.Bytes += int64(n)
	return err
}
