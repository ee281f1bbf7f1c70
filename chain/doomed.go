package chain

import (
	"slices"

	"github.com/windlass-hpc/windlass/attach"
)

// doomed lists o, and of what it lies on what goes with it: what nobody holds but what is deleted by force, as o is. Only these are ever
// aborted: what the client named, and what nobody reads beside that. What somebody else holds, who may be a healthy
// chain that only waits for storage to come back, is let alone, however long o then hangs on it: deleting that by force is for who
// named it. Two attachments may share one device of the kernel; that is let alone too, unless both go by force, or the client named it.
// Chain.mu is held. o may have gone already.
func (c *Chain) doomed(o *object) []*object {
	going := c.going(o)
	seen := map[ID]bool{o.id: true}
	all := []*object{o}
	for i := 0; i < len(all); i++ {
		for _, b := range all[i].below {
			if child := c.objects[b.ID]; child != nil && going[b.ID] && !seen[b.ID] {
				seen[b.ID] = true
				all = append(all, child)
			}
		}
	}
	return slices.DeleteFunc(all, func(x *object) bool { return x != o && c.shared(x, going) })
}

// going is o and all else that is deleted by force, with what neither a client nor anything beside these holds. Chain.mu is held.
func (c *Chain) going(o *object) map[ID]bool {
	in := map[ID]bool{o.id: true}
	all := []*object{o}
	for _, x := range c.objects {
		if x != o && (x.pressing != nil || x.phase == Undoing && (x.forced || x.pressed)) {
			in[x.id] = true
			all = append(all, x)
		}
	}
	for i := 0; i < len(all); i++ {
		for _, b := range all[i].below {
			child := c.objects[b.ID]
			if child == nil || in[child.id] || child.client || !within(child.over, in) {
				continue
			}
			in[child.id] = true
			all = append(all, child)
		}
	}
	return in
}

func within(ids map[ID]Kind, in map[ID]bool) bool {
	for id := range ids {
		if !in[id] {
			return false
		}
	}
	return true
}

// shared reports whether an attachment that does not go has the same device. One that is lost has none. Chain.mu is held.
func (c *Chain) shared(o *object, going map[ID]bool) bool {
	if o.kind != KindAttach || o.device.Path == "" {
		return false
	}
	for _, other := range c.objects {
		if other.kind == KindAttach && other.phase != Lost && !going[other.id] && wholeDevice(other.device) == wholeDevice(o.device) {
			return true
		}
	}
	return false
}

// wholeDevice is the path of the device, not of its partition.
func wholeDevice(d attach.Device) string {
	if d.Parent != "" {
		return d.Parent
	}
	return d.Path
}
