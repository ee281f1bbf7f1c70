package loop

import (
	"math"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxPartition is the highest number of a partition that the contract allows.
const maxPartition = 256

// Validate checks the spec alone.
func (*Driver) Validate(spec *models.Attach) error {
	if spec == nil || spec.Loopback == nil {
		return fault.New(fault.Invalid, "loopback is missing: kind loopback needs it")
	}
	l := spec.Loopback
	if err := checkPath(l); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		value *int64
		max   int64
	}{
		{"offset", l.Offset, math.MaxInt64}, {"size_limit", l.SizeLimit, math.MaxInt64}, {"partition", l.Partition, maxPartition},
	} {
		if v := value(f.value); v < 0 || v > f.max {
			return fault.New(fault.Invalid, "loopback.%s %d is not between 0 and %d", f.name, v, f.max)
		}
	}
	if limit := value(l.SizeLimit); limit > 0 && limit < sector {
		return fault.New(fault.Invalid, "loopback.size_limit %d is less than a sector (%d bytes)", limit, sector)
	}
	return nil
}

func checkPath(l *models.AttachLoopback) error {
	if value(l.Path) == "" {
		return fault.New(fault.Invalid, "loopback.path is missing: name the file")
	}
	switch value(l.Base) {
	case models.BaseRoot:
		if l.Mount != nil {
			return fault.New(fault.Invalid, "loopback.mount is given, but base is root: say base mount, or leave the mount out")
		}
		return safepath.CheckAbsolute("loopback.path", *l.Path)
	case models.BaseMount:
		if l.Mount == nil {
			return fault.New(fault.Invalid, "loopback.mount is missing: base mount needs it")
		}
		return safepath.CheckBelow("loopback.path", *l.Path)
	case "":
		return fault.New(fault.Invalid, "loopback.base is missing: say root or mount")
	}
	return fault.New(fault.Invalid, "loopback.base %q is neither root nor mount", *l.Base)
}

// partition is the number of the partition that spec asks for, 0 for the whole device.
func partition(spec *models.Attach) int {
	if spec == nil || spec.Loopback == nil {
		return 0
	}
	return int(value(spec.Loopback.Partition))
}

// value is what p points to, the zero value when it is nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
