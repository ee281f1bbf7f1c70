// Package squashfs reads squashfs 4.0 images, as mksquashfs writes them: every inode with its owner, its extended attributes and its
// links, the content of files with the holes they have.
//
// It takes an image as hostile: what does not fit is an error of kind Corrupt, memory is bounded whatever the image says, and nothing is
// followed. It never writes one, and it gives no tree: a directory that is in itself is the caller's to find out.
//
// The format is that of fs/squashfs/squashfs_fs.h in Linux; https://dr-emann.github.io/squashfs/ describes it.
package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Magic is what an image begins with.
const Magic = "hsqs"

const (
	superSize = 96
	metaSize  = 8 << 10 // of a block of metadata, decompressed
	minBlock  = 4 << 10
	maxBlock  = 1 << 20

	none32 = math.MaxUint32 // no fragment, no attributes
	none64 = math.MaxUint64 // no such table

	cachedMeta      = 512      // blocks of metadata
	cachedFragments = 32 << 20 // bytes
)

// super is the superblock, as far as it is of use to a reader.
type super struct {
	Magic      [4]byte
	Inodes     uint32
	ModTime    uint32
	BlockSize  uint32
	Fragments  uint32
	Codec      uint16
	BlockLog   uint16
	Flags      uint16
	IDs        uint16
	Major      uint16
	Minor      uint16
	Root       uint64
	Used       uint64
	IDTable    uint64
	XattrTable uint64
	InodeTable uint64
	DirTable   uint64
	FragTable  uint64
	ExportTbl  uint64
}

// Reader reads an image. Its methods may be called by several at once.
type Reader struct {
	r         io.ReaderAt
	super     super
	codec     decompressor
	ids       []uint32
	xattrs    xattrTable
	meta      *cache // decompressed blocks of metadata, by where they are
	fragments *cache
}

// Open reads the superblock and the tables of the image of size bytes that r gives.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	x := &Reader{r: r}
	if err := x.open(size); err != nil {
		return nil, fmt.Errorf("open a squashfs image: %w", err)
	}
	return x, nil
}

func (x *Reader) open(size int64) error {
	head := make([]byte, superSize)
	if err := x.readAt(head, 0); err != nil {
		return err
	}
	s := &x.super
	if _, err := binary.Decode(head, binary.LittleEndian, s); err != nil {
		return corrupt("its superblock: %w", err)
	}
	switch {
	case string(s.Magic[:]) != Magic:
		return corrupt("it does not begin with %q", Magic)
	case s.Major != 4 || s.Minor != 0:
		return fault.New(fault.Unsupported, "it is of version %d.%d, and 4.0 is read", s.Major, s.Minor)
	case s.BlockSize < minBlock || s.BlockSize > maxBlock || s.BlockLog > 20 || s.BlockSize != 1<<s.BlockLog:
		return corrupt("its block size %d is none", s.BlockSize)
	case s.Used > uint64(size):
		return corrupt("it is cut off: it has %d bytes of %d", size, s.Used)
	}
	var err error
	if x.codec, err = newDecompressor(s.Codec, int(s.BlockSize)); err != nil {
		return err
	}
	x.meta, x.fragments = newCache(cachedMeta), newCache(max(4, cachedFragments/int(s.BlockSize)))
	if err := x.readIDs(); err != nil {
		return fmt.Errorf("its table of owners: %w", err)
	}
	if err := x.readXattrTable(); err != nil {
		return fmt.Errorf("its table of extended attributes: %w", err)
	}
	return nil
}

// Inodes is how many there are, by what the image says.
func (x *Reader) Inodes() int64 { return int64(x.super.Inodes) }

// readAt reads all of p.
func (x *Reader) readAt(p []byte, at uint64) error {
	if at > math.MaxInt64 {
		return corrupt("something is at %d, which is beyond the end", at)
	}
	n, err := x.r.ReadAt(p, int64(at))
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt("it ends at %d", at+uint64(n))
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), at, err)
}

// readIDs reads the owners, which inodes name by their place here.
func (x *Reader) readIDs() error {
	raw := make([]byte, 4*int(x.super.IDs))
	for at := 0; at < len(raw); at += metaSize {
		where, err := x.tableEntry(x.super.IDTable, at/metaSize)
		if err != nil {
			return err
		}
		m := x.metadata(where, 0)
		if err := m.read(raw[at:min(at+metaSize, len(raw))]); err != nil {
			return err
		}
	}
	for ; len(raw) > 0; raw = raw[4:] {
		x.ids = append(x.ids, binary.LittleEndian.Uint32(raw))
	}
	return nil
}

// tableEntry gives where block i of a table is.
func (x *Reader) tableEntry(table uint64, i int) (uint64, error) {
	var p [8]byte
	at := table + 8*uint64(i)
	if table == none64 || at < table {
		return 0, corrupt("there is none")
	}
	if err := x.readAt(p[:], at); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p[:]), nil
}

func (x *Reader) id(i uint16) (uint32, error) {
	if int(i) >= len(x.ids) {
		return 0, corrupt("it has owner %d of %d", i, len(x.ids))
	}
	return x.ids[i], nil
}

// corrupt is an error about the image.
func corrupt(format string, args ...any) error { return fault.New(fault.Corrupt, format, args...) }
