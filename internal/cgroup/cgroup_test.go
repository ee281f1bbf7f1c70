package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newGroup(t *testing.T, l Limits) Group {
	t.Helper()
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	top := h.Instance("", fmt.Sprintf("windlass-test-%d", os.Getpid()))
	g := top.Child("1")
	if err := g.Create(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Remove(context.Background()), g.Remove(context.Background())); err != nil {
			t.Error(err)
		}
		top.RemoveEmpty()
		if top.Exists() {
			t.Errorf("%s is left", top.Dir)
		}
	})
	return g
}

// enter starts a process in the payload.
func enter(t *testing.T, g Group, script string) *exec.Cmd {
	t.Helper()
	dir, err := os.OpenFile(g.Payload(), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestKillFreezeAndEmpty(t *testing.T) {
	g := newGroup(t, Limits{})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := enter(t, g, "sleep 1000 & sleep 1000")
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for _, frozen := range []bool{true, true, false, true} {
		if err := g.Freeze(ctx, frozen); err != nil {
			t.Fatal(err)
		}
		if e, err := g.Events(); err != nil || !e.Populated || e.Frozen != frozen {
			t.Errorf("events %+v %v, want frozen %v", e, err, frozen)
		}
	}
	short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	if err := g.WaitEmpty(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what runs: %v", err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.WaitEmpty(ctx); err != nil {
		t.Error(err)
	}
	<-done
}

// Without a limit nothing is made in version 1; with one, only where it is.
func TestLimitsLeaveNoTrace(t *testing.T) {
	g := newGroup(t, Limits{})
	if joins := g.Joins(); len(joins) != 0 {
		t.Errorf("without limits: %v", joins)
	}
	limited := Group{Dir: g.Dir, Legacy: g.Legacy}
	if err := limited.limit(Limits{Memory: 64 << 20, Pids: 7, CPU: 0.5}); err != nil {
		t.Fatal(err)
	}
	for c, want := range map[string][3]string{"memory": {"memory.limit_in_bytes", "memory.max", "67108864\n"}, "pids": {"pids.max", "pids.max", "7\n"}} {
		dir, file := g.Dir, want[1]
		if d := g.Legacy[c]; d != "" {
			dir, file = d, want[0]
		}
		if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(b) != want[2] {
			t.Errorf("%s: %q %v", c, b, err)
		}
	}
}

func TestRemoveWhatRuns(t *testing.T) {
	g := newGroup(t, Limits{})
	if err := os.MkdirAll(filepath.Join(g.Payload(), "made/inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := enter(t, g, "sleep 1000")
	go func() { _ = cmd.Wait() }()
	if err := g.Remove(context.Background()); err != nil {
		t.Error(err)
	}
	if g.Exists() {
		t.Error("it is still there")
	}
	if e, err := g.Events(); err != nil || e.Populated {
		t.Errorf("events of what is gone: %+v %v", e, err)
	}
	if err := errors.Join(g.Kill(), g.WaitEmpty(context.Background())); err != nil {
		t.Error(err)
	}
}
