// Package devices loads the drivers of the devices that a node has, those that show when others are there included.
//
// It goes on as long as the context, for what is plugged in later. Which module serves a device is kmod's to know.
package devices

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Loader is kmod.Loader.
type Loader interface {
	Start() []string
	Load(ctx context.Context, name string, params ...string) error
}

// Config says what to look at.
type Config struct {
	Loader Loader
	Sys    string        // /sys
	Quiet  time.Duration // without anything new, then it is done
	Most   time.Duration // then it goes on in the background
	// Say tells a line.
	Say func(format string, args ...any)
	// Events opens the kernel's messages; it is for tests.
	Events func(ctx context.Context) (<-chan string, error)
}

// Result is what was found.
type Result struct {
	Devices int  // kinds of devices, by alias
	Quiet   bool // nothing new came any more
}

// plug is the state of a search.
type plug struct {
	cfg  Config
	jobs chan string

	mu      sync.Mutex
	seen    map[string]bool
	pending int
	last    time.Time // when something came or ended
}

// Plug loads what is to be loaded at start, then the drivers of all devices, several at once, until nothing new shows. Devices that come
// later are served as long as ctx.
func Plug(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Events == nil {
		cfg.Events = Uevents
	}
	p := &plug{cfg: cfg, jobs: make(chan string, 1<<14), seen: map[string]bool{}, last: time.Now()}
	events, eventsErr := cfg.Events(ctx) // before looking, so that nothing is missed in between
	var errs []error
	for _, name := range cfg.Loader.Start() {
		if err := cfg.Loader.Load(ctx, name); err != nil {
			errs = append(errs, err)
		}
	}
	for range max(2, runtime.NumCPU()) {
		go p.work(ctx)
	}
	if eventsErr == nil {
		go func() {
			for alias := range events {
				p.add(alias)
			}
		}()
	} else {
		errs = append(errs, fmt.Errorf("devices that are plugged in later are not seen: %w", eventsErr))
	}
	p.walk()
	quiet := p.settle(ctx)
	for quiet { // events are lost when there are very many
		known := p.count()
		if p.walk(); p.count() == known {
			break
		}
		quiet = p.settle(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return Result{Devices: len(p.seen), Quiet: quiet}, errors.Join(errs...)
}

func (p *plug) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// walk looks at the devices that are there.
func (p *plug) walk() {
	_ = filepath.WalkDir(filepath.Join(p.cfg.Sys, "devices"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "modalias" {
			return nil //nolint:nilerr // a device that went meanwhile
		}
		if text, err := os.ReadFile(path); err == nil {
			p.add(strings.TrimSpace(string(text)))
		}
		return nil
	})
}

// add takes the alias of a device.
func (p *plug) add(alias string) {
	if alias == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[alias] {
		return
	}
	select {
	case p.jobs <- alias:
		p.seen[alias] = true
		p.pending++
		p.last = time.Now()
	default: // more devices than anybody has; they come again with the next event
	}
}

func (p *plug) work(ctx context.Context) {
	for {
		select {
		case alias := <-p.jobs:
			if err := p.cfg.Loader.Load(ctx, alias); err != nil && told(err) && ctx.Err() == nil {
				p.cfg.Say("%v", err)
			}
			p.mu.Lock()
			p.pending--
			p.last = time.Now()
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// told says whether an error is more than that there is no driver, or not the hardware for it.
func told(err error) bool { return !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unsupported) }

// settle waits until nothing has happened for a while. The kernel has no event for that, so it looks.
func (p *plug) settle(ctx context.Context) bool {
	end := time.Now().Add(p.cfg.Most)
	for {
		p.mu.Lock()
		pending, rest := p.pending, p.cfg.Quiet-time.Since(p.last)
		p.mu.Unlock()
		switch {
		case pending == 0 && rest <= 0:
			return true
		case time.Now().After(end) || ctx.Err() != nil:
			return false
		}
		select {
		case <-time.After(max(min(rest, 50*time.Millisecond), 5*time.Millisecond)):
		case <-ctx.Done():
		}
	}
}
