//go:build ceph

package rbd

import (
	"errors"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// PublishOptions say how an image is published.
type PublishOptions struct {
	Features   []string // none is layering, which every kernel can map
	ObjectSize uint64   // bytes, a power of two from 4 KiB to 32 MiB; 0 is 4 MiB
	DataPool   string   // pool for the content, such as an erasure coded one; "" is the image's own
	Replace    bool     // rename an image that has the name already
	Force      bool     // also when somebody has that open to write
	NoVerify   bool     // do not read back what was written
	Jobs       int      // requests at the same time; 0 is 8
	Publisher  string   // who publishes, to be kept with the image
	// Progress is called now and then, by one goroutine at a time; nil is nobody.
	Progress func(Progress)
	// Note is told what a person wants to know, such as what an earlier attempt left and is removed; nil is nobody.
	Note func(text string)
}

// Progress is how far a publishing is.
type Progress struct {
	Stage       string // "writing", "verifying"
	Done, Total int64  // bytes of the file
	Written     int64  // bytes of it that are no zeros
}

func (o *PublishOptions) defaults() {
	if o.Jobs <= 0 {
		o.Jobs = 8
	}
	if o.ObjectSize == 0 {
		o.ObjectSize = 4 << 20
	}
	if len(o.Features) == 0 {
		o.Features = []string{rbd.FeatureNameLayering}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
}

// layout makes librbd's options of ours. The caller destroys them.
func (o *PublishOptions) layout() (*rbd.ImageOptions, error) {
	order := 0
	for 1<<order < o.ObjectSize {
		order++
	}
	if 1<<order != o.ObjectSize || order < 12 || order > 25 {
		return nil, fault.New(fault.Invalid, "objects of %d bytes: it must be a power of two from 4 KiB to 32 MiB", o.ObjectSize)
	}
	known := []string{rbd.FeatureNameLayering, rbd.FeatureNameExclusiveLock, rbd.FeatureNameObjectMap, rbd.FeatureNameFastDiff, rbd.FeatureNameDeepFlatten}
	for _, f := range o.Features {
		if !slices.Contains(known, f) {
			return nil, fault.New(fault.Invalid, "feature %q is none of %s", f, strings.Join(known, ", "))
		}
	}
	layout := rbd.NewRbdImageOptions()
	set := []error{layout.SetUint64(rbd.ImageOptionOrder, uint64(order)), layout.SetUint64(rbd.ImageOptionFeatures, uint64(rbd.FeatureSetFromNames(o.Features)))}
	if o.DataPool != "" {
		set = append(set, layout.SetString(rbd.ImageOptionDataPool, o.DataPool))
	}
	if err := errors.Join(set...); err != nil {
		layout.Destroy()
		return nil, failed(err, "lay out the image")
	}
	return layout, nil
}
