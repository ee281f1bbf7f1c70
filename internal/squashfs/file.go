package squashfs

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// The size of a block on disk, with a mark for one that is not compressed.
const (
	plainBlock = 1 << 24
	sizeMask   = plainBlock - 1
)

// File reads the content of a regular file from its beginning on. It is not for use by several at once.
type File struct {
	x     *Reader
	in    *Inode
	sizes cursor
	disk  uint64 // where the next block is
	pos   int64
	piece piece
	run   int64  // pos is in data up to here, if it is larger
	data  []byte // of the piece; nil: not read
	buf   []byte
	raw   []byte
}

// piece is a block of a file, or its end, which lies with those of others in a fragment.
type piece struct {
	start, end int64
	at         uint64
	size       uint32 // 0: a hole
	fragment   bool
}

// Open opens a regular file.
func (x *Reader) Open(in *Inode) (*File, error) {
	if in.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, corrupt("inode %#x is not a regular file", uint64(in.Ref))
	}
	return &File{x: x, in: in, sizes: in.file.sizes, disk: in.file.start}, nil
}

// Read gives what is in a hole as zeros.
func (f *File) Read(p []byte) (int, error) {
	if err := f.advance(); err != nil {
		return 0, err
	}
	var n int
	if f.piece.hole() {
		n = int(min(int64(len(p)), f.piece.end-f.pos))
		clear(p[:n])
	} else {
		if err := f.load(); err != nil {
			return 0, fmt.Errorf("inode %#x at %d: %w", uint64(f.in.Ref), f.pos, err)
		}
		n = copy(p, f.data[f.pos-f.piece.start:])
	}
	f.pos += int64(n)
	return n, nil
}

// NextData goes to off, which is not before what has been read, or to where data goes on behind it, and says where that ends. io.EOF:
// there is no more.
func (f *File) NextData(off int64) (start, end int64, err error) {
	for {
		if err := f.advance(); err != nil {
			return 0, 0, err
		}
		if f.piece.hole() || f.piece.end <= off {
			f.pos = f.piece.end
			continue
		}
		f.pos = max(f.pos, off)
		if f.run <= f.pos {
			if f.run, err = f.runEnd(); err != nil {
				return 0, 0, err
			}
		}
		return f.pos, f.run, nil
	}
}

// runEnd looks for the next hole.
func (f *File) runEnd() (int64, error) {
	sizes := f.sizes
	for p, disk := f.piece, f.disk; ; {
		next, err := f.after(p, &sizes, &disk)
		if err == io.EOF || err == nil && next.hole() {
			return p.end, nil
		}
		if err != nil {
			return 0, err
		}
		p = next
	}
}

// advance goes on to the piece that pos is in.
func (f *File) advance() error {
	for f.pos >= f.piece.end {
		next, err := f.after(f.piece, &f.sizes, &f.disk)
		if err != nil {
			return err
		}
		f.piece, f.data = next, nil
	}
	return nil
}

// after gives the piece that follows p; io.EOF: none does.
func (f *File) after(p piece, sizes *cursor, disk *uint64) (piece, error) {
	left, blockSize := f.in.Size-p.end, int64(f.x.super.BlockSize)
	if left <= 0 {
		return piece{}, io.EOF
	}
	next := piece{start: p.end, end: p.end + min(left, blockSize)}
	if left < blockSize && f.in.file.fragment != none32 {
		next.fragment = true
		return next, nil
	}
	if err := sizes.decode(&next.size); err != nil {
		return piece{}, fmt.Errorf("inode %#x: the sizes of its blocks: %w", uint64(f.in.Ref), err)
	}
	next.at = *disk
	*disk += uint64(next.size & sizeMask)
	return next, nil
}

func (p piece) hole() bool { return p.size == 0 && !p.fragment }

// load reads the piece.
func (f *File) load() error {
	if f.data != nil {
		return nil
	}
	want := int(f.piece.end - f.piece.start)
	if f.piece.fragment {
		block, err := f.x.fragment(f.in.file.fragment)
		if err != nil {
			return err
		}
		from := int64(f.in.file.offset)
		if from+int64(want) > int64(len(block)) {
			return corrupt("its end is at %d of a fragment that has %d bytes", from, len(block))
		}
		f.data = block[from : from+int64(want)]
		return nil
	}
	if f.buf == nil {
		f.buf, f.raw = make([]byte, f.x.super.BlockSize), make([]byte, f.x.super.BlockSize)
	}
	data, err := f.x.dataBlock(f.buf, f.raw, f.piece.at, f.piece.size)
	if err != nil {
		return err
	}
	if len(data) != want {
		return corrupt("a block has %d bytes in place of %d", len(data), want)
	}
	f.data = data
	return nil
}

// dataBlock reads a block of content into buf, by way of raw; both have the size of a block.
func (x *Reader) dataBlock(buf, raw []byte, at uint64, size uint32) ([]byte, error) {
	n := size & sizeMask
	if n == 0 || n > x.super.BlockSize {
		return nil, corrupt("a block has %d bytes on disk", n)
	}
	if size&plainBlock != 0 {
		return buf[:n], x.readAt(buf[:n], at)
	}
	if err := x.readAt(raw[:n], at); err != nil {
		return nil, err
	}
	return x.codec.decompress(buf, raw[:n])
}

// fragment gives a block that holds the ends of several files.
func (x *Reader) fragment(i uint32) ([]byte, error) {
	if i >= x.super.Fragments {
		return nil, corrupt("it has its end in fragment %d of %d", i, x.super.Fragments)
	}
	b, err := x.fragments.get(uint64(i), func() (entry, error) {
		const perBlock, size = 512, 16
		where, err := x.tableEntry(x.super.FragTable, int(i/perBlock))
		if err != nil {
			return entry{}, err
		}
		var e struct {
			Start        uint64
			Size, Unused uint32
		}
		if err := x.metadata(where, int(i%perBlock)*size).decode(&e); err != nil {
			return entry{}, err
		}
		data, err := x.dataBlock(make([]byte, x.super.BlockSize), make([]byte, x.super.BlockSize), e.Start, e.Size)
		return entry{data: data}, err
	})
	return b.data, err
}
