package iscsi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	// The pauses between attempts to log in again: doubled each time, up to the last one. The first one is there because a target that
	// has lost us may need a moment as well.
	firstPause, lastPause = 500 * time.Millisecond, 10 * time.Second
	// lasted is how long a session must last for the pauses to begin anew: a target may let us in and drop us at once, again and again.
	lasted = 30 * time.Second
	// lookEvery is how often a session is looked at when nothing is heard of it, in case that something was not heard.
	lookEvery = 5 * time.Second
)

// keeper keeps one session logged in.
type keeper struct {
	id    attach.ID
	sid   uint32 // of the session
	link  *link  // nobody's but run's
	stop  context.CancelFunc
	done  chan struct{}
	pings chan chan<- error // each is told when the target has answered
	asked []chan<- error    // of those whose ping is under way; run's
	pause time.Duration     // before the last attempt to log in again; run's
	won   time.Time         // when the session was last logged in again; run's

	mu         sync.Mutex
	portal     string
	recoveries int64
	lost       time.Time // when the connection was lost; zero while there is one
	why        string    // why it was lost, or why it could not be won again
	gone       bool      // the kernel has the session no more, and nobody has asked us to take it away
}

// keep has the session of a link kept from now on, unless somebody keeps it. Of another session of the same id nobody does any more.
func (d *Driver) keep(id attach.ID, l *link) {
	d.mu.Lock()
	old := d.keepers[id]
	if d.running.Err() != nil || old != nil && old.sid == l.session.ID && !old.ended() {
		d.mu.Unlock()
		return
	}
	ctx, stop := context.WithCancel(d.running)
	k := &keeper{id: id, sid: l.session.ID, link: l, stop: stop, done: make(chan struct{}), pings: make(chan chan<- error), portal: l.portal.Address()}
	d.keepers[id] = k
	delete(d.facts, id)
	go k.run(ctx, old)
	d.mu.Unlock()
}

// adopt keeps a session that is there already, unless it is kept.
func (d *Driver) adopt(ctx context.Context, id attach.ID, w wanted, s session) error {
	kernel, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.keep(id, &link{driver: d, id: id, wanted: w, kernel: kernel, session: kernel.Session(s.id, s.host), bound: true, portal: s.place()})
	return nil
}

// forget gives up keeping the session of id, and waits until nothing is done to it any more.
func (d *Driver) forget(id attach.ID) {
	d.mu.Lock()
	k := d.keepers[id]
	delete(d.keepers, id)
	delete(d.facts, id)
	d.mu.Unlock()
	k.end()
}

// end has the keeper end, if there is one, and waits for that.
func (k *keeper) end() {
	if k != nil {
		k.stop()
		<-k.done
	}
}

// ended says whether the keeper has come to its end: it was told to, or its session has gone.
func (k *keeper) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// run is the keeper's goroutine. It begins when the keeper before it has ended.
func (k *keeper) run(ctx context.Context, before *keeper) {
	defer close(k.done)
	before.end()
	k.link.session.Listen()
	defer k.link.session.Close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		s, there, err := k.link.driver.find(k.sid)
		if err == nil && !there {
			k.missing()
			return
		}
		if err == nil && s.state != loggedIn {
			k.recover(ctx, "the session is "+s.state)
		}
		select {
		case why := <-k.link.session.Lost():
			k.recover(ctx, why)
		case p := <-k.link.session.PDUs():
			k.hear(ctx, p)
		case a := <-k.pings:
			k.send(ctx, a)
		case <-k.link.session.Woken():
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// recover logs in again and again until it works, or the session has gone.
func (k *keeper) recover(ctx context.Context, why string) {
	d := k.link.driver
	began := time.Now()
	k.note(began, why)
	k.answered(errors.New(why))
	log := d.cfg.Log.WithField("obj", int64(k.id)).WithField("driver", "iscsi").WithField("target", k.link.wanted.target)
	log.Warnf("the session is lost: %s; it will be logged in again", why)
	// Kernels before 5.7 leave it to us to make readers wait.
	if quick, cancel := soon(ctx); true {
		_ = k.link.session.Stop(quick, netlink.Recover)
		cancel()
	}
	for k.pause = k.nextPause(began); ; k.pause = min(2*k.pause, lastPause) {
		if after(ctx, jitter(k.pause)) != nil {
			return
		}
		if _, there, err := d.find(k.sid); err == nil && !there {
			return
		}
		err := step.Do(ctx, "iscsi.recover", k.link.login)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		k.note(began, err.Error())
	}
	_ = k.link.note(ctx) // it may be at another address now
	k.won = time.Now()
	k.mu.Lock()
	k.lost, k.why, k.portal = time.Time{}, "", k.link.portal.Address()
	k.recoveries++
	k.mu.Unlock()
	log.Warnf("the session is logged in again after %s", time.Since(began).Round(time.Millisecond))
}

// nextPause is the first pause of a loss at a time: as long as the last one was, doubled, when the session has not lasted since.
func (k *keeper) nextPause(lost time.Time) time.Duration {
	if k.pause == 0 || lost.Sub(k.won) >= lasted {
		return firstPause
	}
	return min(2*k.pause, lastPause)
}

func (k *keeper) note(since time.Time, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost, k.why = since, why
}

func (k *keeper) missing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = true
}

// jitter is the pause, give or take a fifth, so that many nodes do not come all at once.
func jitter(pause time.Duration) time.Duration {
	return pause*4/5 + rand.N(pause*2/5)
}

// trouble is empty when all is well.
func (k *keeper) trouble(now time.Time) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return fmt.Sprintf("session %d with %s has gone from the kernel, and its disk with it: somebody else has taken it away",
			k.sid, k.link.wanted.target)
	}
	if k.lost.IsZero() {
		return ""
	}
	return fmt.Sprintf(stuck+"the session with %s at %s is lost since %s: %s; trying again",
		k.link.wanted.target, k.portal, now.Sub(k.lost).Round(time.Second), k.why)
}
