//go:build failpoint

// Package failpoint lets tests kill, fail or hang the daemon at a named point.
//
// The environment arms points:
//
//	WINDLASS_FAILPOINT=NAME#N=ACTION[;…]  the Nth time (from 1, over the life of the process) that NAME is reached;
//	                                      NAME=ACTION means every time
//	WINDLASS_FAILPOINT_TRACE=FILE         append each name as it is reached, one a line
//
// Actions: kill (SIGKILL to ourselves, at once), error (the point returns an error), hang (blocks until the context ends), stall
// (blocks for ever, as a call does that is stuck in the kernel).
package failpoint

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled says whether points can be armed in this build.
const Enabled = true

type armed struct {
	nth    int // 0: every time
	action string
}

// state is package state by nature: a failpoint is a property of the process, armed by its environment.
var state = struct {
	once  sync.Once
	mu    sync.Mutex
	arms  map[string][]armed
	count map[string]int
	trace *os.File
}{}

func load() {
	state.arms, state.count = map[string][]armed{}, map[string]int{}
	for _, part := range strings.Split(os.Getenv("WINDLASS_FAILPOINT"), ";") {
		point, action, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		name, nth, _ := strings.Cut(point, "#")
		n, _ := strconv.Atoi(nth)
		state.arms[name] = append(state.arms[name], armed{n, action})
	}
	if p := os.Getenv("WINDLASS_FAILPOINT_TRACE"); p != "" {
		state.trace, _ = os.OpenFile(p, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_CLOEXEC, 0o600)
	}
}

// Hit marks that the point was reached and does what it is armed for.
func Hit(ctx context.Context, name string) error {
	state.once.Do(load)
	switch reach(name) {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // never runs on: the signal is pending
	case "error":
		return fmt.Errorf("failpoint %s", name)
	case "hang":
		<-ctx.Done()
		return fmt.Errorf("failpoint %s: %w", name, ctx.Err())
	case "stall":
		select {}
	}
	return nil
}

func reach(name string) string {
	state.mu.Lock()
	defer state.mu.Unlock()
	state.count[name]++
	if state.trace != nil {
		fmt.Fprintln(state.trace, name)
	}
	for _, a := range state.arms[name] {
		if a.nth == 0 || a.nth == state.count[name] {
			return a.action
		}
	}
	return ""
}
