package rbd

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// The longest names. That of a snapshot is the kernel's limit (RBD_MAX_SNAP_NAME_LEN); the others keep the line short.
const (
	maxName     = 255
	maxSnapshot = 250
)

// Validate checks the spec alone.
func (*Driver) Validate(spec *models.Attach) error {
	if spec == nil || spec.Rbd == nil {
		return fault.New(fault.Invalid, "rbd is missing: kind rbd needs it")
	}
	r := spec.Rbd
	o := options(r)
	if _, err := parseMonitors(r.Monitors, secondVersion(o)); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"rbd.pool", value(r.Pool)}, {"rbd.image", value(r.Image)}} {
		if f.value == "" {
			return fault.New(fault.Invalid, "%s is missing", f.name)
		}
		if err := checkWord(f.name, f.value, "/@"); err != nil {
			return err
		}
	}
	if err := checkOptions(o); err != nil {
		return err
	}
	return checkSnapshot(r.Snapshot, o)
}

func checkSnapshot(s string, o *models.RbdOptions) error {
	switch {
	case s == "":
		return nil
	case s == "-":
		return fault.New(fault.Invalid, `rbd.snapshot "-" is what the kernel calls no snapshot: leave it out`)
	case len(s) > maxSnapshot:
		return fault.New(fault.Invalid, "rbd.snapshot is longer than the %d bytes that the kernel takes", maxSnapshot)
	case o.Rw:
		return fault.Hintf(fault.New(fault.Invalid, "rbd.options.rw: a snapshot cannot be written"), "leave rw out, or attach the image itself or a clone")
	}
	return checkWord("rbd.snapshot", s, "/@")
}

// checkWord refuses what could end a word of the line that goes to the kernel, or could not be seen in it, and the letters in not.
func checkWord(field, s, not string) error {
	switch {
	case len(s) > maxName:
		return fault.New(fault.Invalid, "%s is longer than %d bytes", field, maxName)
	case !utf8.ValidString(s):
		return fault.New(fault.Invalid, "%s %q is not UTF-8", field, s)
	}
	for _, r := range s {
		switch {
		case r == 0:
			return fault.New(fault.Invalid, "%s %q holds a NUL byte", field, s)
		case unicode.IsSpace(r), !unicode.IsPrint(r):
			return fault.New(fault.Invalid, "%s %q holds a blank, or a letter that cannot be shown", field, s)
		case strings.ContainsRune(not, r):
			return fault.New(fault.Invalid, "%s %q holds a %q", field, s, r)
		}
	}
	return nil
}

// checkOption is checkWord for the value of an option: a comma would begin the next one.
func checkOption(field, s string) error { return checkWord(field, s, ",") }

// options gives those of the request, never nil.
func options(r *models.AttachRbd) *models.RbdOptions {
	if r.Options == nil {
		return &models.RbdOptions{}
	}
	return r.Options
}

func secondVersion(o *models.RbdOptions) bool { return o.MsMode != "" && o.MsMode != "legacy" }

// user is the name of the Ceph user, without `client.`.
func user(o *models.RbdOptions) string {
	if o.Name == "" {
		return defaultUser
	}
	return strings.TrimPrefix(o.Name, "client.")
}

// value is what p points to, the zero value when it is nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
