package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// blobs are the files of an image layout, by their paths in it.
type blobs interface {
	// open gives a file and its size. The error is of kind NotFound when it is not there.
	open(name string) (io.ReadCloser, int64, error)
	has(name string) bool
	Close() error
}

// dirBlobs are in a directory.
type dirBlobs struct{ root *os.File }

func openDirBlobs(path string) (*dirBlobs, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	return &dirBlobs{os.NewFile(uintptr(fd), path)}, nil
}

func (d *dirBlobs) Close() error { return d.root.Close() }

func (d *dirBlobs) has(name string) bool {
	f, _, err := d.open(name)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func (d *dirBlobs) open(name string) (io.ReadCloser, int64, error) {
	f, err := safepath.OpenInRootAt(int(d.root.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, 0, fault.New(fault.NotFound, "there is no %q in it", name)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = damaged("%q is not a file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// tarBlobs are in a tar that is not compressed.
type tarBlobs struct {
	f     *os.File
	files map[string]extent
	links map[string]string // docker wrote a layer that is there twice as a symbolic link
}

type extent struct{ offset, size int64 }

// maxBlobs bounds the files of an image archive.
const maxBlobs = 1 << 20

// indexTar finds the files of the tar f, which it owns from then on.
func indexTar(ctx context.Context, f *os.File) (*tarBlobs, error) {
	b := &tarBlobs{f: f, files: map[string]extent{}, links: map[string]string{}}
	if err := b.index(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("read the archive %s: %w", f.Name(), err)
	}
	return b, nil
}

func (b *tarBlobs) index(ctx context.Context) error {
	if _, err := b.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	archive := tar.NewReader(b.f) // it passes over what is between headers by seeking
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return damaged("%w", err)
		}
		if ctx.Err() != nil || len(b.files)+len(b.links) > maxBlobs {
			return errors.Join(ctx.Err(), fault.New(fault.TooLarge, "it has more than %d files", maxBlobs))
		}
		name, err := unpack.CleanName(h.Name)
		if err != nil {
			continue // nothing names it
		}
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := b.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			b.files[name] = extent{at, h.Size}
		case tar.TypeSymlink, tar.TypeLink:
			b.links[name] = linkName(name, h)
		}
	}
}

func linkName(name string, h *tar.Header) string {
	if h.Typeflag == tar.TypeLink || strings.HasPrefix(h.Linkname, "/") {
		return path.Clean("/" + h.Linkname)[1:]
	}
	return path.Join("/", path.Dir(name), h.Linkname)[1:]
}

func (b *tarBlobs) find(name string) (extent, bool) {
	name = path.Clean("/" + name)[1:]
	for range maxHops {
		if e, ok := b.files[name]; ok {
			return e, true
		}
		next, ok := b.links[name]
		if !ok {
			break
		}
		name = next
	}
	return extent{}, false
}

func (b *tarBlobs) has(name string) bool {
	_, ok := b.find(name)
	return ok
}

func (b *tarBlobs) open(name string) (io.ReadCloser, int64, error) {
	e, ok := b.find(name)
	if !ok {
		return nil, 0, fault.New(fault.NotFound, "there is no %q in it", clip(name))
	}
	return io.NopCloser(io.NewSectionReader(b.f, e.offset, e.size)), e.size, nil
}

func (b *tarBlobs) Close() error { return b.f.Close() }

// spool writes a compressed archive of an image out to a file without a name, where its parts can be found: its layers are read twice and
// not in its order.
func spool(ctx context.Context, r io.Reader) (f *os.File, err error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	f, err = os.CreateTemp("", "windlass-image-")
	if err != nil {
		return nil, fmt.Errorf("make room for the archive, decompressed: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, &withContext{ctx, plain})
	}
	if err != nil {
		f.Close()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = damaged("the archive is cut off")
		}
		return nil, fault.Hintf(fmt.Errorf("write the archive, decompressed, to %s: %w", os.TempDir(), err), "TMPDIR names another place; a plain tar needs none")
	}
	return f, nil
}

// withContext ends with its context.
type withContext struct {
	ctx context.Context //nolint:containedctx // it is one operation
	r   io.Reader
}

func (w *withContext) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}
