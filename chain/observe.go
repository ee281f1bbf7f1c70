package chain

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// observer gives the driver of a kind when it can tell how a mount fares.
func (c *Chain) observer(kind models.MountKind) (mount.Observer, bool) {
	d, ok := c.cfg.Mount.Driver(string(kind))
	if !ok {
		return nil, false
	}
	o, ok := d.(mount.Observer)
	return o, ok
}

// attachObserver does the same for an attachment.
func (c *Chain) attachObserver(kind models.AttachKind) (attach.Observer, bool) {
	d, ok := c.cfg.Attach.Driver(string(kind))
	if !ok {
		return nil, false
	}
	o, ok := d.(attach.Observer)
	return o, ok
}

// bothErrors puts what a driver sees now behind an error of the chain's own, which says what was tried and failed.
func bothErrors(own, seen string) string {
	switch {
	case seen == "" || strings.Contains(own, seen):
		return own
	case own == "":
		return seen
	}
	return own + "; " + seen
}

// troubleBelow tells, of o and all that it lies on, what a driver sees not to answer; "" when all does. Chain.mu is held.
func (c *Chain) troubleBelow(o *object) string {
	seen := ""
	switch o.kind {
	case KindAttach:
		if d, ok := c.attachObserver(o.attach.Kind); ok {
			v := *o.attach
			v.Error = ""
			d.Observe(o.id, &v)
			seen = v.Error
		}
	case KindMount:
		if d, ok := c.observer(o.mount.Kind); ok {
			v := *o.mount
			v.Error = ""
			d.Observe(o.id, &v)
			seen = v.Error
		}
	}
	if seen != "" {
		return o.String() + ": " + seen
	}
	for _, b := range o.below {
		if child := c.objects[b.ID]; child != nil {
			if seen := c.troubleBelow(child); seen != "" {
				return seen
			}
		}
	}
	return ""
}

// deadBelow is troubleBelow for who does not hold the lock.
func (c *Chain) deadBelow(o *object) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.troubleBelow(o)
}

// refreshPause is how often lists that do not wait for it have the drivers look again.
const refreshPause = time.Second

// refreshSoon has the drivers look again and does not wait for them.
func (c *Chain) refreshSoon() {
	last, now := c.looked.Load(), time.Now().UnixNano()
	if now-last < int64(refreshPause) || !c.looked.CompareAndSwap(last, now) {
		return
	}
	go c.refresh("", "")
}

// refreshLoop has the drivers look again and again: since when something does not answer must not depend on who asks, and a deletion by
// force is to know at once. It costs nothing where there is nothing to look at.
func (c *Chain) refreshLoop() {
	for pause(c.ctx, c.cfg.RefreshEvery) {
		c.refresh("", "")
	}
}

// refreshWait is the most that a list waits for the drivers to look again; what they see later the next one shows.
const refreshWait = 200 * time.Millisecond

// refresh has the drivers that can tell how their objects fare look again, before anything is viewed: all, or those of a kind. One that
// has not come back from an earlier time is not asked again.
func (c *Chain) refresh(only Kind, kind string) {
	all := c.refreshers(only, kind)
	if len(all) == 0 {
		return
	}
	var wg sync.WaitGroup
	for _, r := range all {
		if !c.turns.begin(r.name) {
			continue
		}
		wg.Go(func() {
			defer c.turns.end(r.name)
			r.refresh(c.ctx, r.ids)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	wait := time.NewTimer(refreshWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	}
}

// refresher is a driver and what it has in place.
type refresher struct {
	name    string
	ids     []ID
	refresh func(context.Context, []ID)
}

// refreshers lists the drivers that can tell, of one sort of object or, with only empty, of both.
func (c *Chain) refreshers(only Kind, kind string) []refresher {
	placed := map[Kind]map[string][]ID{KindAttach: {}, KindMount: {}}
	c.mu.RLock()
	for _, o := range c.objects {
		switch {
		case o.phase != Ready && o.phase != Undoing:
		case o.kind == KindAttach:
			placed[KindAttach][string(o.attach.Kind)] = append(placed[KindAttach][string(o.attach.Kind)], o.id)
		case o.kind == KindMount:
			placed[KindMount][string(o.mount.Kind)] = append(placed[KindMount][string(o.mount.Kind)], o.id)
		}
	}
	c.mu.RUnlock()
	var all []refresher
	for sort, kinds := range placed {
		for name, ids := range kinds {
			if only != "" && (sort != only || kind != "" && kind != name) {
				continue
			}
			if d, ok := c.observer(models.MountKind(name)); ok && sort == KindMount {
				all = append(all, refresher{"mount " + name, ids, d.Refresh})
			}
			if d, ok := c.attachObserver(models.AttachKind(name)); ok && sort == KindAttach {
				all = append(all, refresher{"attach " + name, ids, d.Refresh})
			}
		}
	}
	return all
}

// turns lets one at a time do what has a name.
type turns struct {
	mu   sync.Mutex
	busy map[string]bool
}

func (t *turns) begin(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[name] {
		return false
	}
	if t.busy == nil {
		t.busy = map[string]bool{}
	}
	t.busy[name] = true
	return true
}

func (t *turns) end(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, name)
}
