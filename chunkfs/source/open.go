package source

import (
	"context"
	"io"
	"os"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Kind is what a source is.
type Kind string

// The kinds of sources. Any is found out by looking.
const (
	Any           Kind = ""
	KindDirectory Kind = "directory"
	KindTar       Kind = "tar"
	KindSquashfs  Kind = "squashfs"
	KindOCI       Kind = "oci"    // an image layout, as a directory or in a tar
	KindDocker    Kind = "docker" // what docker save writes
)

// Kinds are those that Options.Kind may name.
func Kinds() []Kind {
	return []Kind{KindDirectory, KindTar, KindSquashfs, KindOCI, KindDocker}
}

// Options say how a source is read. The zero value is what most want.
type Options struct {
	// Kind forces what Open would otherwise find out.
	Kind Kind
	// Stdin is read for the name "-": a tar, compressed or not.
	Stdin io.Reader
	// CrossMounts goes into what is mounted below a directory. Otherwise such a place is an empty directory or file.
	CrossMounts bool
	// Platform chooses among the images of an OCI index, as os/arch or os/arch/variant; empty: that of this machine.
	Platform string
	// Ref chooses among the images of an OCI layout or a docker archive: a name (org.opencontainers.image.ref.name, a docker tag) or a
	// digest. It may be empty where there is one image only.
	Ref string
	// Skipped is told what is left out of the tree and why, such as an extended attribute that steers overlayfs; it may be nil. It is
	// called by Walk.
	Skipped func(path, what string)
}

// Open looks at what arg names and reads it: a directory, a file, or "-" for a tar on o.Stdin. The error is of kind NotFound, Invalid
// (the options do not fit), Unsupported (it is something else; the hint says what would do) or Corrupt.
func Open(ctx context.Context, arg string, o Options) (Source, error) {
	return nil, fault.New(fault.Unsupported, "open %q as a source", arg)
}

// Directory reads the directory at path. The names are sorted by their bytes. A file that changes between Walk and the end of its
// content is an error of kind BadState.
func Directory(path string, o Options) (Source, error) {
	return nil, fault.New(fault.Unsupported, "open the directory %q as a source", path)
}

// Tar reads a tar archive, plain or compressed by gzip, zstd or xz, from r, which Close closes if it is an io.Closer. name is for
// messages, size that of what r gives, 0 when not known.
func Tar(name string, r io.Reader, size int64, o Options) (Source, error) {
	return nil, fault.New(fault.Unsupported, "read the archive %q", name)
}

// Squashfs reads a squashfs 4.0 image. Close closes f.
func Squashfs(f *os.File, o Options) (Source, error) {
	return nil, fault.New(fault.Unsupported, "read the squashfs %q", f.Name())
}

// OCI reads one image of an OCI image layout, a directory or a tar of it, or of an archive as docker save writes: its layers, one over
// the other.
func OCI(ctx context.Context, path string, o Options) (Source, error) {
	return nil, fault.New(fault.Unsupported, "read the image layout %q", path)
}
