package helper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/helper/act"
)

// What a helper does (Left.Op).
const (
	OpWrite   = act.OpWrite
	OpCreate  = act.OpCreate
	OpUnmount = act.OpUnmount
	OpStatfs  = act.OpStatfs
	OpAbort   = act.OpAbort
	OpSync    = act.OpSync
	OpClose   = act.OpClose
	OpRead    = act.OpRead
	OpOpen    = act.OpOpen
)

// Left is a helper that was killed and has not died yet.
type Left struct {
	PID   int
	Op    string    // what it does, one of the Op constants
	Path  string    // on which file or directory; "" with OpCreate and OpClose
	What  string    // the same for people
	Since time.Time // when it began
	Where string    // where in the kernel it waits; "" when the kernel does not tell
}

// Left lists the helpers that were left behind and still live, the oldest first.
func (r *Runner) Left() []Left {
	r.mu.Lock()
	all := make([]Left, 0, len(r.left))
	for _, l := range r.left {
		all = append(all, l)
	}
	r.mu.Unlock()
	for i := range all {
		all[i].Where = where(all[i].PID)
	}
	slices.SortFunc(all, func(a, b Left) int { return a.Since.Compare(b.Since) })
	return all
}

// LeftAt lists those of some operations, all when none is named, on the file or directory at path, the oldest first.
func (r *Runner) LeftAt(path string, ops ...string) []Left {
	return slices.DeleteFunc(r.Left(), func(l Left) bool { return l.Path != path || len(ops) > 0 && !slices.Contains(ops, l.Op) })
}

// leave keeps account of p until it ends.
func (r *Runner) leave(p *process, o act.Order, what string) {
	r.mu.Lock()
	r.left[p] = Left{PID: p.proc.Pid, Op: o.Op, Path: o.Path, What: what, Since: p.began}
	r.mu.Unlock()
	go func() {
		<-p.ended
		r.mu.Lock()
		delete(r.left, p)
		r.mu.Unlock()
	}()
}

// where says in which function of the kernel a process waits: that of its thread that cannot be interrupted.
func where(pid int) string {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		stat, err := os.ReadFile(filepath.Join(task, "stat"))
		_, rest, ok := strings.Cut(string(stat), ") ") // the name before it may hold anything but ends with the last one
		if err != nil || !ok || !strings.HasPrefix(rest, "D") {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(task, "wchan")); err == nil && len(b) > 0 && string(b) != "0" {
			return string(b)
		}
	}
	return ""
}
