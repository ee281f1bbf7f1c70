package helper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Left is a helper that was killed and has not died yet.
type Left struct {
	PID   int
	What  string    // what it does
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

// leave keeps account of p until it ends.
func (r *Runner) leave(p *process, what string) {
	r.mu.Lock()
	r.left[p] = Left{PID: p.proc.Pid, What: what, Since: p.began}
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
