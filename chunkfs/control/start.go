package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

// StartConfig says which server a Starter starts, and how.
type StartConfig struct {
	RunDir    string // of the daemon, an absolute path; the server's place is in it
	Shim      string // path of windlass-shim
	Server    string // path of windlass
	CacheDir  string
	CacheSize int64 // bytes; 0 lets the server choose
	// Spared has keeper and server live on when systemd ends all processes at a shutdown: the node's root may come to lie on what they
	// serve, and then the node could not end without them. It counts for a server that is started here.
	Spared bool
}

// SparedEnv in the environment of a daemon asks for StartConfig.Spared, whatever its value.
const SparedEnv = "WINDLASS_SERVES_ROOT"

// Starter sees to it that the server runs when it is wanted, and that it goes on while this process lives. It starts nothing before
// somebody asks for the server. Its methods may be called by many goroutines at once.
type Starter struct {
	cfg   StartConfig
	place Place

	turn chan struct{} // holds a token while somebody starts the server
	mu   sync.Mutex
	hold io.Closer // nil while no server is held
}

// NewStarter makes a starter.
func NewStarter(cfg StartConfig) *Starter {
	return &Starter{cfg: cfg, place: PlaceIn(cfg.RunDir), turn: make(chan struct{}, 1)}
}

// Place is where the server lies.
func (s *Starter) Place() Place { return s.place }

// Client gives a client of the server, whether that runs or not.
func (s *Starter) Client() Client { return Client{Socket: s.place.Socket()} }

// Server gives a client of a server that runs, and starts it when none does. A server that an earlier daemon started is as good. The
// stage of starting is "chunkfs.start".
func (s *Starter) Server(ctx context.Context) (Client, error) {
	if s.held() {
		return s.Client(), nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return Client{}, fmt.Errorf("wait for the chunkfs server to be started: %w", context.Cause(ctx))
	}
	if s.held() { // somebody else was faster
		return s.Client(), nil
	}
	err := s.grasp(ctx)
	if fault.Is(err, fault.Unavailable) {
		err = step.Do(ctx, "chunkfs.start", s.start)
	}
	return s.Client(), err
}

// Close lets go of the server: without a mount it ends.
func (s *Starter) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		s.hold.Close()
	}
	s.hold = nil
}

// Alive reports whether there is a server, or a keeper that is about to start one again. While there is none, what a server served before
// cannot be read any more. It asks nobody.
func (s *Starter) Alive() bool { return !s.keeperGone() }

func (s *Starter) held() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hold != nil
}

// graspTimeout is what a server that answers at all needs at most to say so.
const graspTimeout = 5 * time.Second

// grasp holds the server that runs: Unavailable when none does.
func (s *Starter) grasp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, graspTimeout)
	defer cancel()
	hold, err := s.Client().Hold(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.hold = hold
	s.mu.Unlock()
	go func() { // it ends when the server dies, or when we let go
		_, _ = io.Copy(io.Discard, hold)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hold == hold {
			s.hold = nil
		}
		hold.Close()
	}()
	return nil
}

// readyTimeout bounds the coming up of a server.
const readyTimeout = 20 * time.Second

// start starts the server unless somebody else does, and waits until it answers.
func (s *Starter) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout,
		fault.New(fault.Timeout, "it did not come up within %s", readyTimeout))
	defer cancel()
	if err := os.MkdirAll(string(s.place), 0o700); err != nil {
		return fmt.Errorf("start the chunkfs server: %w", err)
	}
	lock, err := lockFile(ctx, s.place.StartLock())
	if err != nil {
		return fmt.Errorf("start the chunkfs server: %w", err)
	}
	defer lock.Close()
	if err := s.grasp(ctx); !fault.Is(err, fault.Unavailable) {
		return err
	}
	from := s.logSize()
	k, err := s.await(ctx)
	if err != nil {
		k.end()
		return fault.Hintf(fault.New(fault.Unavailable, "start the chunkfs server: %w%s", err, s.logSince(from)), "%s says more", s.place.Log())
	}
	return nil
}

// maxSpawns bounds how often a keeper is started that ends before its server answers.
const maxSpawns = 3

// await starts a keeper when there is none, or when the one that there was turns out to be on its way out, and tries until the server
// answers. Whether it does can only be seen by asking, which costs little while there is no socket: it is asked often enough that a server
// that is there waits for us for a sixteenth of what it took to start.
func (s *Starter) await(ctx context.Context) (k *keeperProcess, err error) {
	spawns := 0
	for began := time.Now(); ; {
		if k == nil && s.keeperGone() {
			if spawns++; spawns > maxSpawns {
				return nil, errors.New("its keeper has ended")
			}
			if k, err = s.spawn(); err != nil {
				return nil, err
			}
		}
		if err := s.grasp(ctx); !fault.Is(err, fault.Unavailable) {
			return k, err
		}
		select {
		case <-ctx.Done():
			return k, context.Cause(ctx)
		case <-k.gone():
			k = nil
		case <-time.After(min(max(time.Since(began)/16, time.Millisecond/2), 50*time.Millisecond)):
		}
	}
}
