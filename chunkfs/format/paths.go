package format

import (
	"regexp"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Where things lie below the root of a store.
const (
	StoreFile = "windlass-store.json" // says that the directory is a store, and of which layout
	BlobDir   = "blobs"
	TagDir    = "tags"
	TraceDir  = "traces"
)

// Layout is the content of StoreFile; a reader refuses every other.
const Layout = 1

// BlobPath is where a store keeps the blob of a digest.
func BlobPath(d Digest) string {
	sum := d.Sum.String()
	return BlobDir + "/" + d.Algorithm.String() + "/" + sum[:2] + "/" + sum
}

// TagPath is where a store keeps a tag. The error is of kind Invalid.
func TagPath(name string) (string, error) {
	if err := CheckTag(name); err != nil {
		return "", err
	}
	return TagDir + "/" + name, nil
}

// TracePath is where a store keeps the trace of a role of an image, which is named by its manifest. The error is of kind Invalid.
func TracePath(image Digest, role string) (string, error) {
	if !image.Algorithm.Valid() {
		return "", fault.New(fault.Invalid, "a trace needs the digest of an image")
	}
	if err := CheckRole(role); err != nil {
		return "", err
	}
	return TraceDir + "/" + image.Algorithm.String() + "/" + image.Sum.String() + "/" + role, nil
}

// CheckTag says whether a tag may have the name. Names are paths below tags/ of the store, so what a path could do beyond naming is
// refused, and so is an ending in "~", which the store gives its temporary files, and what reads as a digest. The error is of kind Invalid.
func CheckTag(name string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._:/-]{0,127}$`).MatchString(name) {
		return fault.New(fault.Invalid, "tag %.140q is not 1 to 128 of A-Z a-z 0-9 . _ : / - beginning with a letter, digit or _", name)
	}
	for _, a := range []Algorithm{BLAKE3, SHA256} {
		if strings.HasPrefix(name, a.String()+":") {
			return fault.New(fault.Invalid, "%.140q reads as the digest of an image, and is none: after %s: come 64 of 0-9 and a-f", name, a)
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fault.New(fault.Invalid, "tag %q has a part that is empty, . or ..", name)
		}
	}
	return nil
}

// CheckRole says whether a trace may be of the role: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter, digit or _. The error is of
// kind Invalid.
func CheckRole(role string) error {
	if !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`).MatchString(role) {
		return fault.New(fault.Invalid, "role %.80q is not 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter, digit or _", role)
	}
	return nil
}
