package overlay

import (
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// The limits; swagger.yaml has the same, the kernel has the first.
const (
	maxLower  = 500
	minSize   = 64 << 10
	minInodes = 16
)

func validate(spec *models.Mount) error {
	if spec == nil || spec.Overlay == nil {
		return fault.New(fault.Invalid, "overlay is missing: a mount of kind overlay lists its layers in it")
	}
	part := spec.Overlay
	switch {
	case len(part.Lower) == 0:
		return fault.New(fault.Invalid, "overlay.lower is empty: an overlay lies on one mount or more")
	case len(part.Lower) > maxLower:
		return fault.New(fault.Invalid, "overlay.lower has %d layers: %d are the most", len(part.Lower), maxLower)
	case readOnly(part) && part.Upper != nil:
		return fault.New(fault.Invalid, "overlay.upper is given but overlay.ro is true: leave one of them out")
	}
	for i, l := range part.Lower {
		if l == nil {
			return fault.New(fault.Invalid, "overlay.lower[%d] is null: give a mount, or the id of one", i)
		}
	}
	if part.Upper != nil {
		return validateUpper(part.Upper)
	}
	return nil
}

func validateUpper(up *models.OverlayUpper) error {
	switch {
	case up.Path != "" && up.Mount != nil:
		return fault.New(fault.Invalid, "overlay.upper has both path and mount: give one of them, or none for a tmpfs")
	case (up.Path != "" || up.Mount != nil) && (up.Size != 0 || up.Inodes != 0):
		return fault.New(fault.Invalid, "overlay.upper.size and inodes are limits of a tmpfs: leave them out with path or mount")
	case up.Size != 0 && up.Size < minSize:
		return fault.New(fault.Invalid, "overlay.upper.size %d: it must be %d bytes or more", up.Size, minSize)
	case up.Inodes != 0 && up.Inodes < minInodes:
		return fault.New(fault.Invalid, "overlay.upper.inodes %d: it must be %d or more", up.Inodes, minInodes)
	case up.Path != "":
		return safepath.CheckAbsolute("overlay.upper.path", up.Path)
	}
	return nil
}

func readOnly(part *models.MountOverlay) bool { return part.Ro != nil && *part.Ro }
