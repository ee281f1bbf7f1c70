package rbd

import (
	"strings"
	"time"
	"unicode"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// scheme begins every name.
const scheme = "rbd:"

// Name says which image of which pool, in the form rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT].
type Name struct {
	Pool      string `json:"pool"`
	Namespace string `json:"namespace,omitempty"`
	Image     string `json:"image,omitempty"` // "" for the pool or namespace itself
	Snapshot  string `json:"snapshot,omitempty"`
}

const nameHint = "write rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE, with @SNAPSHOT at the end for a snapshot, such as rbd:rbd/debian@v1"

// ParseName reads the name of an image. Errors are of kind Invalid and hold a hint.
func ParseName(text string) (Name, error) {
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return Name{}, fault.Hintf(fault.New(fault.Invalid, "%q does not begin with rbd:", text), nameHint)
	}
	var n Name
	rest, snapshot, hasSnapshot := strings.Cut(rest, "@")
	parts := strings.Split(rest, "/")
	switch len(parts) {
	case 2:
		n = Name{Pool: parts[0], Image: parts[1]}
	case 3:
		n = Name{Pool: parts[0], Namespace: parts[1], Image: parts[2]}
	default:
		return Name{}, fault.Hintf(fault.New(fault.Invalid, "%q does not say pool and image", text), nameHint)
	}
	n.Snapshot = snapshot
	if hasSnapshot {
		parts = append(parts, snapshot)
	}
	return n, check(text, parts, nameHint)
}

const poolHint = "write rbd:POOL or rbd:POOL/NAMESPACE"

// ParsePool reads the name of a pool or of a namespace in one: rbd:POOL[/NAMESPACE]. Errors are of kind Invalid and hold a hint.
func ParsePool(text string) (Name, error) {
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return Name{}, fault.Hintf(fault.New(fault.Invalid, "%q does not begin with rbd:", text), poolHint)
	}
	parts := strings.Split(rest, "/")
	if len(parts) > 2 || strings.Contains(rest, "@") {
		return Name{}, fault.Hintf(fault.New(fault.Invalid, "%q is no pool and no namespace", text), poolHint)
	}
	n := Name{Pool: parts[0]}
	if len(parts) == 2 {
		n.Namespace = parts[1]
	}
	return n, check(text, parts, poolHint)
}

// check refuses what Ceph or the line that the kernel is told would not take.
func check(text string, parts []string, hint string) error {
	for _, p := range parts {
		if p == "" {
			return fault.Hintf(fault.New(fault.Invalid, "%q: a part of the name is empty", text), "%s", hint)
		}
		if strings.ContainsFunc(p, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("@/,", r) }) {
			return fault.New(fault.Invalid, "%q: %q holds a space, one of @ / , or what cannot be printed, and the kernel takes no such name", text, p)
		}
	}
	return nil
}

// String is the name as ParseName and ParsePool read it.
func (n Name) String() string {
	s := scheme + n.Pool
	for _, part := range []string{n.Namespace, n.Image} {
		if part != "" {
			s += "/" + part
		}
	}
	if n.Snapshot != "" {
		s += "@" + n.Snapshot
	}
	return s
}

// The states of an image that its name tells, with what stands between the image's own name and a mark.
const (
	partMark = ".windlass-part-" // being written
	goneMark = ".windlass-gone-" // being removed
	oldMark  = ".windlass-old-"  // replaced by another
)

// marked takes the name of an image apart that is not what it was meant to be, or is it no longer.
func marked(image string) (of, mark string) {
	for _, m := range []string{partMark, goneMark, oldMark} {
		if i := strings.LastIndex(image, m); i > 0 {
			return image[:i], m
		}
	}
	return image, ""
}

// oldName is what a replaced image is called.
func oldName(image string, now time.Time) string {
	return image + oldMark + now.UTC().Format("20060102T150405.000Z")
}
