package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/squashfs"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// Stdin is the name that stands for Options.Stdin.
const Stdin = "-"

// Open looks at what arg names and reads it: a directory, a file, or "-" for a tar on o.Stdin. The error is of kind NotFound, Invalid
// (the options do not fit), Unsupported (it is something else; the hint says what would do) or Corrupt.
func Open(ctx context.Context, arg string, o Options) (Source, error) {
	if arg == Stdin {
		return openStdin(ctx, o)
	}
	st, err := os.Stat(arg)
	if err != nil {
		return nil, openError(arg, errors.Unwrap(err))
	}
	kind := o.Kind
	switch {
	case kind != Any:
	case st.IsDir():
		kind = dirKind(arg)
	default:
		return openFile(ctx, arg, o)
	}
	switch kind {
	case KindDirectory:
		return Directory(arg, o)
	case KindTar:
		return openTar(arg, o)
	case KindSquashfs:
		f, err := openRegular(arg)
		if err != nil {
			return nil, err
		}
		return Squashfs(f, o)
	case KindOCI, KindDocker:
		return OCI(ctx, arg, o)
	}
	return nil, fault.New(fault.Invalid, "there is no kind of source %q; there are: %v", o.Kind, Kinds())
}

// dirKind tells an image layout from a root file system.
func dirKind(dir string) Kind {
	for _, name := range []string{layoutFile, indexFile} {
		if st, err := os.Stat(dir + "/" + name); err != nil || !st.Mode().IsRegular() {
			return KindDirectory
		}
	}
	if st, err := os.Stat(dir + "/blobs"); err != nil || !st.IsDir() {
		return KindDirectory
	}
	return KindOCI
}

func openStdin(ctx context.Context, o Options) (Source, error) {
	if o.Stdin == nil {
		return nil, fault.New(fault.Invalid, "there is no standard input to read the source from")
	}
	in := struct{ io.Reader }{o.Stdin} // Close is not ours to call
	switch o.Kind {
	case Any, KindTar:
		return Tar("on standard input", in, 0, o)
	case KindOCI, KindDocker:
		f, err := spool(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the image on standard input: %w", err)
		}
		return openArchive(ctx, "on standard input", f, o)
	}
	return nil, fault.New(fault.Invalid, "a %s cannot be read from standard input: a tar or an image archive can", o.Kind)
}

// openRegular opens a file or a block device: to open another is to wait, or worse.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(path, errors.Unwrap(err))
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() && st.Mode()&os.ModeType != os.ModeDevice {
		err = fault.Hintf(fault.New(fault.Invalid, "open the source %q: it is not a file", path), "an archive from a pipe is read from standard input: -")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openFile finds out what a file is.
func openFile(ctx context.Context, path string, o Options) (Source, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	head, err := peek(f)
	switch {
	case err != nil:
		err = fmt.Errorf("read %q: %w", path, err)
	case strings.HasPrefix(string(head), squashfs.Magic):
		return Squashfs(f, o)
	case codecOf(head) == unpack.Plain && !isTar(head):
		err = unknown(path)
	default:
		return archiveOrImage(ctx, f, o)
	}
	f.Close()
	return nil, err
}

// peek reads the beginning of a file.
func peek(f *os.File) ([]byte, error) {
	head := make([]byte, sniffSize)
	n, err := f.ReadAt(head, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}

// unknown is the error for a file that is none of ours.
func unknown(path string) error {
	what, err := fsmount.Identify(path)
	if err != nil {
		return fmt.Errorf("look at %q: %w", path, err)
	}
	if what == "" {
		what = "nothing that is known"
	}
	return fault.Hintf(fault.New(fault.Unsupported, "%q is not a source: it is %s", path, what),
		"a source is a directory, a tar (plain, gzip, zstd or xz), a squashfs, or an OCI image layout or docker archive; what is in a file system can be given as the directory where it is mounted")
}

func openTar(path string, o Options) (Source, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	return tarFile(f, o)
}

func tarFile(f *os.File, o Options) (Source, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return Tar(f.Name(), f, st.Size(), o)
}

// OCI reads one image of an OCI image layout, a directory or a tar of it, or of an archive as docker save writes: its layers, one over
// the other. A compressed archive is written out, decompressed, to a file without a name in the directory for temporary files.
func OCI(ctx context.Context, path string, o Options) (Source, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, errors.Unwrap(err))
	}
	if st.IsDir() {
		b, err := openDirBlobs(path)
		if err != nil {
			return nil, err
		}
		return newImage(path, b, o)
	}
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if f, err = plainFile(ctx, f); err != nil {
		return nil, fmt.Errorf("read the image %s: %w", path, err)
	}
	return openArchive(ctx, path, f, o)
}

// plainFile gives f, or if it is compressed a file that is not; f is closed then.
func plainFile(ctx context.Context, f *os.File) (*os.File, error) {
	head, err := peek(f)
	if err == nil && codecOf(head) == unpack.Plain {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	return spool(ctx, f)
}

// openArchive takes f over.
func openArchive(ctx context.Context, name string, f *os.File, o Options) (Source, error) {
	b, err := indexTar(ctx, f)
	if err != nil {
		return nil, err
	}
	return newImage(name, b, o)
}
