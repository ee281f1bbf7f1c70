package kmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// What a module may take, far above what modules do: one that says more is not read.
const (
	maxModinfo  = 1 << 20
	maxSections = 1 << 16
	maxNames    = 4 << 20
)

// section gives the content of the section of the name out of an ELF file. It is here because debug/elf reads every table whole, as the
// file says how long it is, and is not made for hostile files. Errors are of kind Corrupt.
func section(r io.ReaderAt, name string) ([]byte, error) {
	f, err := openELF(r)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "read the ELF header: %w", err)
	}
	data, err := f.find(name)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "look for section %s: %w", name, err)
	}
	return data, nil
}

// elfFile is where the table of sections lies, which is all that matters here.
type elfFile struct {
	r        io.ReaderAt
	order    binary.ByteOrder
	wide     bool // 64 bits
	table    uint64
	each     int // bytes of an entry
	count    int
	nameless int // section with the names
}

func openELF(r io.ReaderAt) (*elfFile, error) {
	var head [64]byte
	if n, err := r.ReadAt(head[:], 0); n < 52 {
		return nil, fmt.Errorf("%d bytes are no ELF file: %w", n, err)
	}
	if !bytes.HasPrefix(head[:], []byte("\x7fELF")) {
		return nil, fmt.Errorf("it begins with %q, not as an ELF file", head[:4])
	}
	f := &elfFile{r: r, wide: head[4] == 2, order: binary.LittleEndian}
	if head[5] == 2 {
		f.order = binary.BigEndian
	}
	at := head[46:] // of e_shentsize
	f.table = uint64(f.order.Uint32(head[32:]))
	if f.wide {
		at, f.table = head[58:], f.order.Uint64(head[40:])
	}
	f.each, f.count, f.nameless = int(f.order.Uint16(at)), int(f.order.Uint16(at[2:])), int(f.order.Uint16(at[4:]))
	if f.each < 40 || f.wide && f.each < 64 || f.each > 256 {
		return nil, fmt.Errorf("entries of %d bytes in the table of sections", f.each)
	}
	return f, nil
}

// span is what the table says of one section.
type span struct {
	name         uint32
	offset, size uint64
}

func (f *elfFile) spans() ([]span, error) {
	if f.count == 0 || f.count > maxSections {
		return nil, fmt.Errorf("%d sections", f.count)
	}
	table, err := f.read(f.table, uint64(f.each)*uint64(f.count), uint64(f.each)*maxSections)
	if err != nil {
		return nil, fmt.Errorf("the table of sections: %w", err)
	}
	spans := make([]span, f.count)
	for i := range spans {
		e := table[i*f.each:]
		spans[i] = span{f.order.Uint32(e), uint64(f.order.Uint32(e[16:])), uint64(f.order.Uint32(e[20:]))}
		if f.wide {
			spans[i].offset, spans[i].size = f.order.Uint64(e[24:]), f.order.Uint64(e[32:])
		}
	}
	return spans, nil
}

func (f *elfFile) find(name string) ([]byte, error) {
	spans, err := f.spans()
	if err != nil {
		return nil, err
	}
	if f.nameless >= len(spans) {
		return nil, fmt.Errorf("section %d of %d should hold the names", f.nameless, len(spans))
	}
	names, err := f.read(spans[f.nameless].offset, spans[f.nameless].size, maxNames)
	if err != nil {
		return nil, fmt.Errorf("the names of the sections: %w", err)
	}
	want := append([]byte(name), 0)
	for _, s := range spans {
		if uint64(s.name) < uint64(len(names)) && bytes.HasPrefix(names[s.name:], want) {
			return f.read(s.offset, s.size, maxModinfo)
		}
	}
	return nil, errors.New("there is none, so it is no kernel module")
}

// read gives size bytes at offset. It believes no more than it finds.
func (f *elfFile) read(offset, size, limit uint64) ([]byte, error) {
	if size > limit || offset > 1<<40 {
		return nil, fmt.Errorf("%d bytes at %d are more than there may be", size, offset)
	}
	data, err := io.ReadAll(io.NewSectionReader(f.r, int64(offset), int64(size)))
	if err == nil && uint64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}
