package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Reader reads the entries of a tar archive, decompressed, which it takes as hostile. Its errors are those of Tar.
type Reader struct {
	end  *endMark
	tar  *tar.Reader
	o    Options
	last string
}

// NewReader reads the archive that r gives. It ends soon after ctx does.
func NewReader(ctx context.Context, r io.Reader, o Options) *Reader {
	end := &endMark{r: &limited{ctx: ctx, r: r, limit: o.Limit}}
	return &Reader{end: end, tar: tar.NewReader(end), o: o, last: "the first entry"}
}

// Next gives the next entry. io.EOF comes after the last one, when r has been read to its end.
func (a *Reader) Next() (*tar.Header, error) {
	for {
		h, err := a.tar.Next()
		if errors.Is(err, io.EOF) {
			if err := a.end.finish(a.last, a.o.Unmarked); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are the caller's business
			return nil, readError(err, "after "+a.last)
		}
		a.last = fmt.Sprintf("entry %q", clip(h.Name))
		if h.Typeflag != tar.TypeXGlobalHeader { // a comment for the whole archive, such as the commit that git archive writes
			return h, nil
		}
	}
}

// Read gives the content of the entry.
func (a *Reader) Read(p []byte) (int, error) {
	n, err := a.tar.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError(err, "in "+a.last)
	}
	return n, err
}

// CleanName makes the name of an entry one relative to the root, "." for the root itself. A leading / is taken off, as tar does; what
// leads out of the root is an error of kind Corrupt.
func CleanName(name string) (string, error) { return cleanName(name) }

// CheckEntry refuses a header whose owner or device number no system has, with kind Corrupt.
func CheckEntry(h *tar.Header) error {
	if err := checkOwner(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		return checkDevice(h)
	}
	return nil
}

// EntryError names the entry in an error and keeps its kind.
func EntryError(h *tar.Header, err error) error {
	return fault.New(fault.KindOf(err), "entry %q: %w", clip(h.Name), err)
}
