package cpio

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Header is an entry as it stands in an archive, without its content.
type Header struct {
	Entry
	Size  int64
	MTime uint32
	Inode uint32
	Links uint32
}

// Reader reads one archive. It takes no more from its source than the archive up to the mark of its end. Errors of what it reads are of
// kind Corrupt.
type Reader struct {
	r    io.Reader
	at   int64 // bytes read so far
	left int64 // of the content of the last entry
	done bool
}

// NewReader reads the archive that begins at r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next gives the next entry; io.EOF comes after the last. Names are as they are written: they may lead anywhere.
func (r *Reader) Next() (*Header, error) {
	if r.done {
		return nil, io.EOF
	}
	if err := r.skip(); err != nil {
		return nil, err
	}
	start := r.at
	text := make([]byte, headerSize)
	if err := r.full(text); err != nil {
		return nil, err
	}
	h, name, err := parseHeader(text)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "byte %d of the archive: %w", start, err)
	}
	if h.Name, err = r.name(name); err != nil {
		return nil, err
	}
	r.left = h.Size
	if h.Name == trailer {
		r.done = true
		return nil, io.EOF
	}
	if h.Type() != TypeSymlink {
		return h, nil
	}
	if h.Size >= maxPath {
		return nil, fault.New(fault.Corrupt, "%q: the target of the symbolic link has %d bytes", h.Name, h.Size)
	}
	h.Data, err = io.ReadAll(r)
	return h, err
}

// parseHeader takes the fixed part apart; name is the length of what follows, with its closing zero.
func parseHeader(text []byte) (h *Header, name int, err error) {
	if m := string(text[:6]); m != magic && m != magicSum {
		return nil, 0, fmt.Errorf("%q is where an entry of the format newc should begin", m)
	}
	var f [13]uint32
	for i := range f {
		field := string(text[6+8*i : 14+8*i])
		n, err := strconv.ParseUint(field, 16, 32)
		if err != nil {
			return nil, 0, fmt.Errorf("%q is no hexadecimal number", field)
		}
		f[i] = uint32(n)
	}
	if f[11] == 0 || f[11] > maxPath {
		return nil, 0, fmt.Errorf("a name of %d bytes", f[11])
	}
	return &Header{Entry: Entry{Mode: f[1], UID: f[2], GID: f[3], Major: f[9], Minor: f[10]}, Inode: f[0], Links: f[4], MTime: f[5],
		Size: int64(f[6])}, int(f[11]), nil
}

func (r *Reader) name(n int) (string, error) {
	text := make([]byte, n)
	if err := r.full(text); err != nil {
		return "", err
	}
	if text[n-1] != 0 {
		return "", fault.New(fault.Corrupt, "byte %d of the archive: the name does not end with a zero", r.at-int64(n))
	}
	return string(text[:n-1]), r.aligned()
}

// Read gives the content of the entry.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.at += int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		return n, truncated(r.at)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// skip goes to where the next entry begins.
func (r *Reader) skip() error {
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil {
		return err
	}
	return r.aligned()
}

func (r *Reader) aligned() error { return r.full(make([]byte, (align-r.at%align)%align)) }

func (r *Reader) full(p []byte) error {
	n, err := io.ReadFull(r.r, p)
	r.at += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return truncated(r.at)
	}
	return err
}

func truncated(at int64) error {
	return fault.New(fault.Corrupt, "the archive ends at byte %d, before the mark of its end", at)
}
