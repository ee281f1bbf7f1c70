package iscsi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const (
	// refreshEvery is how often a session's state is read at most.
	refreshEvery = 200 * time.Millisecond
	// answerWait is how long a target may take to answer a ping before it counts as dead.
	answerWait = 1500 * time.Millisecond
)

// fact is what is known of a session.
type fact struct {
	at    time.Time
	state string
}

// goneState is the state of a session that the kernel does not have.
const goneState = "gone"

// Refresh reads the sessions' states.
func (d *Driver) Refresh(_ context.Context, ids []attach.ID) {
	d.mu.Lock()
	maps.DeleteFunc(d.facts, func(id attach.ID, _ fact) bool { return !slices.Contains(ids, id) })
	d.mu.Unlock()
	for _, id := range ids {
		d.mu.Lock()
		k, known := d.keepers[id], d.facts[id]
		d.mu.Unlock()
		if time.Since(known.at) < refreshEvery {
			continue
		}
		s, there, err := d.look(id, k)
		if err != nil {
			continue // not known: what was known holds
		}
		if !there {
			s.state = goneState
		}
		d.mu.Lock()
		if d.keepers[id] == k {
			d.facts[id] = fact{at: time.Now(), state: s.state}
		}
		d.mu.Unlock()
	}
}

// look finds the session of id, which k keeps if it is not nil.
func (d *Driver) look(id attach.ID, k *keeper) (session, bool, error) {
	if k != nil {
		return d.find(k.sid)
	}
	all, err := d.ours(id)
	if err != nil || len(all) == 0 {
		return session{}, false, err
	}
	return all[0], true, nil
}

// Observe tells of the session.
func (d *Driver) Observe(id attach.ID, a *models.Attach) {
	d.mu.Lock()
	k, known := d.keepers[id], d.facts[id]
	d.mu.Unlock()
	if a.Iscsi == nil || k == nil && known.state != goneState {
		return
	}
	part, text := *a.Iscsi, ""
	if k == nil {
		part.Session = &models.IscsiSession{State: known.state}
		text = fmt.Sprintf("the session with %s has gone from the kernel, and its disk with it", value(part.Target))
	} else {
		k.mu.Lock()
		part.Session = &models.IscsiSession{ID: int64(k.sid), State: known.state, Portal: k.portal, Recoveries: k.recoveries}
		k.mu.Unlock()
		text = k.trouble(time.Now())
	}
	a.Iscsi = &part
	if a.Error == "" {
		a.Error = text
	}
}

// Abort takes the session down when its target does not answer: what waits for the disk fails, and the disk is gone.
func (d *Driver) Abort(ctx context.Context, dev attach.Device) (aborted bool, err error) {
	all, err := d.ours(dev.ID)
	if err != nil {
		return false, fmt.Errorf("abort iscsi %d: %w", dev.ID, err)
	}
	for _, s := range all {
		if s.state == loggedIn && d.answers(ctx, dev.ID, s) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return aborted, err
		}
		kernel, err := d.open(ctx)
		if err != nil {
			return aborted, err
		}
		d.forget(dev.ID)
		aborted = true
		if err := d.abort(ctx, kernel, s); err != nil {
			return aborted, fault.New(fault.KindOf(err), "abort iscsi %d: %w", dev.ID, err)
		}
	}
	return aborted, nil
}

func (d *Driver) abort(ctx context.Context, kernel *netlink.Kernel, s session) error {
	l := kernel.Listen(s.id, s.host)
	defer l.Close()
	return d.tearDown(ctx, l)
}

// answers asks the target for a sign of life.
func (d *Driver) answers(ctx context.Context, id attach.ID, s session) bool {
	kernel, err := d.open(ctx)
	if err != nil {
		return true // not known
	}
	d.mu.Lock()
	k := d.keepers[id]
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if k != nil && k.sid == s.id {
		if k.trouble(time.Now()) != "" {
			return false
		}
		return k.ping(ctx) == nil
	}
	l := kernel.Listen(s.id, s.host)
	defer l.Close()
	return l.Ping(ctx) == nil
}
