package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// A killed daemon's helper dies with it, soon but not at once: lockWait is how long its lock is waited for, lockPause how often it is
// tried. Nobody else holds the lock against a waiter for longer than an instant: within the process they queue before they come to it.
const (
	lockWait  = 2 * time.Second
	lockPause = 10 * time.Millisecond
)

// errHeld says that somebody works on a device: a helper which was left behind, or another attachment of the same image.
var errHeld = errors.New("it is still being mapped or unmapped")

// locks are the keys that this process works on.
type locks struct {
	mu   sync.Mutex
	held map[string]*waiting
}

// waiting is a key that somebody works on or waits for.
type waiting struct {
	turn  chan struct{} // holds an element while somebody works on it
	count int
}

// group is a key that is locked: its holders and its device are the caller's to change.
type group struct {
	dir  string
	file *os.File // locked; a helper inherits it
	done func()
}

// lock waits until nobody else works on the key, neither in this process nor in a helper left behind by one before it.
func (d *Driver) lock(ctx context.Context, key string) (*group, error) {
	done, err := d.locks.enter(ctx, key)
	if err != nil {
		return nil, err
	}
	g := &group{dir: d.dir(key), done: done}
	if g.file, err = lockFile(ctx, g.dir); err != nil {
		done()
		return nil, err
	}
	return g, nil
}

func (l *locks) enter(ctx context.Context, key string) (done func(), err error) {
	l.mu.Lock()
	w := l.held[key]
	if w == nil {
		w = &waiting{turn: make(chan struct{}, 1)}
		l.held[key] = w
	}
	w.count++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if w.count--; w.count == 0 {
			delete(l.held, key)
		}
	}
	select {
	case w.turn <- struct{}{}:
		return func() { <-w.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%w: %w", errHeld, ctx.Err())
	}
}

// lockFile locks the file of the key, which it makes.
func lockFile(ctx context.Context, dir string) (*os.File, error) {
	deadline := time.Now().Add(lockWait)
	for {
		f, err := tryLock(dir)
		if f != nil || err != nil {
			return f, err
		}
		if time.Now().After(deadline) {
			return nil, errHeld
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errHeld, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// tryLock gives no file and no error when somebody has the lock, or the device is being taken away by force.
func tryLock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the device's holders: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) { // it was cleared away in between
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the lock of the device: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	var st unix.Stat_t
	if err == nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0 {
		going, gerr := isGoing(dir)
		if gerr == nil && !going {
			return f, nil
		}
		f.Close()
		return nil, gerr
	}
	f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("lock the device: %w", err)
	}
	return nil, nil
}

// unlock lets the next one in. The directory of a key that nobody holds goes.
func (g *group) unlock() {
	if ids, err := holdersIn(g.dir); err == nil && len(ids) == 0 {
		clearDir(g.dir)
	}
	g.file.Close()
	g.done()
}

// clearDir removes the directory of a key, whose lock the caller has. A holder keeps it, and so does a device that goes.
func clearDir(dir string) {
	if going, err := isGoing(dir); going || err != nil {
		return
	}
	half, _ := filepath.Glob(filepath.Join(dir, "*"+durable.TempSuffix)) // what a killed daemon was writing
	for _, f := range append(half, filepath.Join(dir, lockName), filepath.Join(dir, goingName)) {
		_ = os.Remove(f)
	}
	_ = os.Remove(dir)
}

// tidy clears away directories without holders, which a daemon leaves that is killed at the right moment.
func (d *Driver) tidy() {
	entries, _ := os.ReadDir(d.cfg.Dir)
	for _, e := range entries {
		dir := d.dir(e.Name())
		ids, err := holdersIn(dir)
		if err != nil || len(ids) > 0 || !isShareKey(e.Name()) {
			continue
		}
		if f, err := tryLock(dir); f != nil && err == nil {
			if ids, err := holdersIn(dir); err == nil && len(ids) == 0 {
				clearDir(dir)
			}
			f.Close()
		}
	}
}

// explainLock gives err what it is about; that of a lock which is not to be had begins with "stuck: ".
func explainLock(err error, format string, args ...any) error {
	if !errors.Is(err, errHeld) {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	err = fault.New(fault.Timeout, "stuck: "+format+": %w", append(args, err)...)
	return fault.Hintf(err, "the cluster does not answer it; it ends when the cluster does, or when the requests in flight have timed out (osd_request_timeout)")
}
