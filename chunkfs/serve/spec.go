package serve

import (
	"path/filepath"
	"regexp"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// checkOpen refuses what cannot be right, before anything is done. The error is of kind Invalid, or Unsupported for a mode that the
// kernel cannot.
func checkOpen(o *control.Open) error {
	switch {
	case !idPattern.MatchString(o.ID):
		return fault.New(fault.Invalid, "id: %.80q is no ID of a mount", o.ID)
	case !filepath.IsAbs(o.Target) || filepath.Clean(o.Target) != o.Target:
		return fault.New(fault.Invalid, "target: %.200q is not an absolute path", o.Target)
	case o.Role != "" && format.CheckRole(o.Role) != nil:
		return fault.New(fault.Invalid, "role: %.80q is no name", o.Role)
	case o.Bandwidth < 0:
		return fault.New(fault.Invalid, "bandwidth: %d bytes a second", o.Bandwidth)
	case o.Kernel != "" && o.Kernel != kernelFile && o.Kernel != kernelLoop:
		return fault.New(fault.Invalid, "kernel: %.80q is none of file, loop and nothing", o.Kernel)
	}
	if _, _, err := wanted(o); err != nil {
		return err
	}
	switch o.Prefetch {
	case "", control.PrefetchNone, control.PrefetchTrace, control.PrefetchAll:
	default:
		return fault.New(fault.Invalid, "prefetch: %.80q is none of none, trace and all", o.Prefetch)
	}
	return checkMode(o)
}

// What the kernel can do with EROFS.
const (
	kernelFile = "file"
	kernelLoop = "loop"
)

func checkMode(o *control.Open) error {
	switch o.Mode {
	case "", control.Auto, control.FUSE:
		return nil
	case control.Direct, control.Lazy:
		if o.Kernel != "" {
			return nil
		}
		return fault.Hintf(fault.New(fault.Unsupported, "mode %s needs a kernel that mounts EROFS", o.Mode),
			"load the module erofs, or choose the mode fuse or auto")
	}
	return fault.New(fault.Invalid, "mode: %.80q is none of auto, direct, lazy and fuse", o.Mode)
}

// wanted says which image is asked for: the tag, where it is one, and the digest, where that is known already.
func wanted(o *control.Open) (tag string, d format.Digest, err error) {
	if o.Digest != "" {
		if d, err = format.ParseDigest(o.Digest); err != nil {
			return "", d, fault.New(fault.Invalid, "digest: %w", err)
		}
	}
	if img, err := format.ParseDigest(o.Image); err == nil {
		if !d.IsZero() && d != img {
			return "", d, fault.New(fault.Invalid, "image %s cannot have the digest %s", o.Image, o.Digest)
		}
		return "", img, nil
	}
	if err := format.CheckTag(o.Image); err != nil {
		return "", d, fault.New(fault.Invalid, "image: %w", err)
	}
	return o.Image, d, nil
}
