// Package serve is the chunkfs server: one process for all chunkfs mounts of a node, a child of the keeper.
//
// It serves FUSE, answers the daemon on its control socket, and after a crash takes up what its predecessor left. It owns the mounts that
// it makes (the file system of device files, and those of mode fuse) and the records of what it was asked; the cache owns the images.
package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/keeper"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Config is what a server is told.
type Config struct {
	RunDir   string // the daemon's run directory, an absolute path; the server's place is chunkfs in it
	CacheDir string
	Quota    int64          // bytes of the cache; 0 is what the cache thinks right
	Log      *logrus.Logger // nil: standard error, which the keeper makes a log file that stays small
}

// ErrRestart ends a server that the keeper is to start again: its process must end with another status than 0.
var ErrRestart = errors.New("the chunkfs server was asked to begin anew")

// Run serves until no mount is left and no daemon holds the server. When ctx ends it goes on as long as there is a mount: whoever reads
// that would hang.
func Run(ctx context.Context, cfg Config) error {
	if cfg.RunDir == "" || cfg.CacheDir == "" {
		return fault.New(fault.Invalid, "the chunkfs server wants a run directory and a cache directory")
	}
	began := time.Now()
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.takeUp(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("take up what an earlier chunkfs server left: %w", err)
	}
	l, err := listenAt(s.place.Socket())
	if err != nil {
		return err
	}
	stop := s.answerOn(l)
	if err := s.keeper.Up(); err != nil {
		s.log.WithError(err).Warn("the keeper was not told")
	}
	s.log.WithFields(logrus.Fields{"start": s.keeper.Start, "mounts": len(s.List()), "dur_ms": time.Since(began).Milliseconds()}).Info("serving")
	s.await(ctx)
	stop()
	if s.restart {
		return ErrRestart
	}
	return s.leaveNothing(l)
}

func newServer(cfg Config) (*server, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // most of what it uses is the kernel's page cache; its own heap is to stay small
	}
	s := &server{
		cfg: cfg, place: control.PlaceIn(cfg.RunDir), log: cfg.Log, devices: newDevices(), sharing: lazy.NewSharing(),
		seats: map[string]*seat{}, changed: make(chan struct{}), coming: map[format.Digest]chan struct{}{},
	}
	if s.log == nil {
		s.log = defaultLog()
	}
	err := os.MkdirAll(string(s.place), 0o700)
	for _, dir := range []string{s.place.Data(), s.place.Mounts()} {
		// Not MkdirAll, which looks at what is there: that may be our own mount, and nobody answers yet.
		if merr := os.Mkdir(dir, 0o700); !errors.Is(merr, os.ErrExist) {
			err = errors.Join(err, merr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make the place of the chunkfs server: %w", err)
	}
	if s.keeper, err = keeper.Connect(); err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s, nil
}

func defaultLog() *logrus.Logger {
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	if l := keeper.InheritedLog(); l != nil {
		log.SetOutput(l)
	}
	return log
}

// grace is how long a server waits for its first mount or holder.
const grace = time.Second

// await waits until there is no reason to go on.
func (s *server) await(ctx context.Context) {
	young := time.After(grace)
	for asked := false; ; {
		s.mu.Lock()
		idle := len(s.seats) == 0 && (s.holds == 0 && young == nil || asked)
		s.ending = s.ending || idle
		over, changed := s.ending, s.changed
		s.mu.Unlock()
		if over {
			return
		}
		end := ctx.Done()
		if asked {
			end = nil
		}
		select {
		case <-changed:
		case <-young:
			young = nil
		case <-end:
			asked = true
			s.mu.Lock()
			if n := len(s.seats); n > 0 {
				s.log.WithField("mounts", n).Warn("asked to end, and goes on until the last mount is closed")
			}
			s.mu.Unlock()
		}
	}
}

// leaveNothing takes away what the server has of its own.
func (s *server) leaveNothing(l *rootListener) error {
	s.end()
	s.retrying.Wait()
	err := errors.Join(s.endData(), s.cache.Close(), os.Remove(l.path))
	for _, dir := range []string{s.place.Data(), s.place.Mounts()} {
		_ = os.Remove(dir) // a record that could not be read stays
	}
	s.log.Info("ended: no mount is left")
	return err
}
