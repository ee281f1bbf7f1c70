package chain

import (
	"strings"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// The views are what the API answers. They share nothing that changes with the objects, and hold no secret. Chain.mu is held while they
// are made.

func (c *Chain) viewAttach(o *object) *models.Attach {
	v := *o.attach
	v.ID, v.DeviceFile, v.Refs, v.Holders = o.id, o.device.Path, o.refs(), o.holders()
	v.State, v.Error, v.Timeline = string(o.phase), o.trouble(), o.steps.wire()
	if v.Loopback != nil && len(o.below) > 0 {
		part := *v.Loopback
		part.Mount = c.nestedMount(o.below[0])
		v.Loopback = &part
	}
	if v.Rbd != nil {
		part := *v.Rbd
		part.DeviceID = o.device.Number
		v.Rbd = &part
	}
	maskAttach(&v)
	if d, ok := c.attachObserver(v.Kind); ok {
		own := v.Error
		v.Error = ""
		d.Observe(o.id, &v)
		v.Error = bothErrors(own, v.Error)
	}
	return &v
}

func (c *Chain) viewMount(o *object) *models.Mount {
	v := *o.mount
	v.ID, v.Refs, v.Holders = o.id, o.refs(), o.holders()
	v.State, v.Error, v.Timeline = string(o.phase), o.trouble(), o.steps.wire()
	v.Mountpoint = c.dir.Mount(int64(o.id))
	fillMount(&v, o.below, c.nestedMount, c.nestedAttach)
	if v.Overlay != nil { // fillMount has copied it
		v.Overlay.Upperdir, v.Overlay.Workdir = o.active.Upperdir, o.active.Workdir
	}
	maskMount(&v)
	if d, ok := c.observer(v.Kind); ok {
		own := v.Error
		v.Error = ""
		d.Observe(o.id, &v)
		v.Error = bothErrors(own, v.Error)
	}
	return &v
}

func (c *Chain) viewContainer(o *object) *models.Container {
	v := *o.container
	v.ID, v.Refs, v.Holders = o.id, o.refs(), o.holders()
	v.Error, v.Timeline = o.trouble(), o.steps.wire()
	v.State = o.ctr.State
	if o.phase == Planned || o.phase == Doing {
		v.State = models.ContainerStateCreated
	}
	if o.phase == Undoing && v.State != models.ContainerStateDead {
		v.State = models.ContainerStateStopping
	}
	v.Logfile = c.cfg.Runtime.LogPath(o.id)
	for _, b := range o.below {
		v.Mount = c.nestedMount(b)
	}
	o.ctr.view(&v)
	v.Created = wireTime(o.made)
	return &v
}

// refs is the number of holders.
func (o *object) refs() int64 {
	n := int64(len(o.over))
	if o.client {
		n++
	}
	return n
}

// trouble is what went wrong last, with what to do about it.
func (o *object) trouble() string {
	parts := []string{}
	if o.stuck > 0 && !isStuck(o.err) {
		parts = append(parts, "stuck: a call of its driver has not come back")
	}
	if o.err != "" {
		parts = append(parts, o.err)
	}
	if o.hint != "" {
		parts = append(parts, o.hint)
	}
	return strings.Join(parts, ": ")
}

// nestedMount is the view of what a link names; only the id when it has been deleted by force.
func (c *Chain) nestedMount(b below) *models.Mount {
	if o := c.objects[b.ID]; o != nil && o.kind == KindMount {
		return c.viewMount(o)
	}
	return &models.Mount{ID: b.ID}
}

func (c *Chain) nestedAttach(b below) *models.Attach {
	if o := c.objects[b.ID]; o != nil && o.kind == KindAttach {
		return c.viewAttach(o)
	}
	return &models.Attach{ID: b.ID}
}

func wireTime(t time.Time) *strfmt.DateTime {
	if t.IsZero() {
		return nil
	}
	d := strfmt.DateTime(t.UTC())
	return &d
}
