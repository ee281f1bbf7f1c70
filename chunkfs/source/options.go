package source

import "io"

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
