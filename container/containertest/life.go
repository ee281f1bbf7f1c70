package containertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func testLife(t *testing.T, h Harness) {
	t.Run("exit codes", func(t *testing.T) { testExitCodes(t, h) })
	t.Run("script without interpreter", func(t *testing.T) {
		f := NewFixture(t, h)
		must(t, os.WriteFile(filepath.Join(f.Root, "bin/script"), []byte("#!/bin/nonesuch\n"), 0o755))
		if err := f.startError(Spec("/bin/script")); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "interpreter") {
			t.Errorf("got %v", err)
		}
		must(t, os.WriteFile(filepath.Join(f.Root, "bin/garbage"), []byte("\x7fELFgarbage"), 0o755))
		if err := f.startError(Spec("/bin/garbage")); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "no program of this machine") {
			t.Errorf("got %v", err)
		}
		f.wantNothing()
	})
	t.Run("stop by signal", func(t *testing.T) {
		f := NewFixture(t, h)
		id, _ := f.Start(Shell(`trap "echo bye; exit 5" TERM; echo up; while true; do sleep 0.05; done`))
		f.UntilLogged(id, "up")
		must(t, f.R.Signal(f.Ctx, id, 15))
		wantExit(t, f.Exit(id), 5, "")
		wantContains(t, "log", f.Log(id), "bye")
		if err := f.R.Signal(f.Ctx, id, 15); !fault.Is(err, fault.BadState) {
			t.Errorf("signal to an exited container: %v", err)
		}
	})
	t.Run("kill with children", func(t *testing.T) { testKill(t, h) })
	t.Run("leftovers end with the first process", func(t *testing.T) {
		f := NewFixture(t, h)
		st, _ := f.Run(Shell(`sleep 1000 & sleep 1000 & exit 4`))
		wantExit(t, st, 4, "")
	})
	t.Run("pause and resume", func(t *testing.T) { testPause(t, h) })
	t.Run("start twice", func(t *testing.T) {
		f := NewFixture(t, h)
		id, _ := f.Start(Shell(Sleeper))
		if _, err := f.R.Start(f.Ctx, id, Shell(Sleeper), f.Root); !fault.Is(err, fault.BadState) {
			t.Errorf("second start: %v", err)
		}
		if st, err := f.R.Status(f.Ctx, id); err != nil || st.State != container.Running {
			t.Errorf("after it: %+v %v", st, err)
		}
	})
	t.Run("start again", func(t *testing.T) { testAgain(t, h) })
	t.Run("remove", func(t *testing.T) { testRemove(t, h) })
	t.Run("restarted daemon", func(t *testing.T) { testAdopt(t, h) })
	t.Run("cancelled start", func(t *testing.T) { testCancel(t, h) })
}

func testExitCodes(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	for name, c := range map[string]struct {
		command string
		code    int
		signal  string
	}{
		"true":    {"/bin/true", 0, ""},
		"false":   {"false", 1, ""},
		"quoted":  {`/bin/sh -c 'exit "$0"' "4"2`, 42, ""},
		"reboot":  {"/bin/reboot -f", 133, ""},
		"poweoff": {"/bin/busybox poweroff -f", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id, st := f.Start(Spec(c.command))
			if st.PID <= 0 || st.Started.IsZero() || !st.Ready {
				t.Errorf("started as %+v", st)
			}
			st = f.Exit(id)
			wantExit(t, st, c.code, c.signal)
			if st.Finished.Before(st.Started) || st.PID != 0 || st.OOMKilled {
				t.Errorf("ended as %+v", st)
			}
		})
	}
}

func testKill(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, st := f.Start(Shell(`trap "" TERM INT HUP; sleep 1000 & (kill -STOP $$ & sleep 1000) & sh -c "kill -STOP \$\$" & sleep 1000 & echo up; while true; do sleep 1000; done`))
	f.UntilLogged(id, "up")
	must(t, f.R.Pause(f.Ctx, id)) // frozen ones end too
	must(t, f.R.Kill(f.Ctx, id))
	if _, err := os.Stat("/proc/" + strconv.Itoa(st.PID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its first process is still there: %v", err)
	}
	st, err := f.R.Status(f.Ctx, id)
	must(t, err)
	wantExit(t, st, 137, "SIGKILL")
	must(t, f.R.Kill(f.Ctx, id))
	must(t, f.R.Kill(f.Ctx, 9999))
}

func testPause(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell(`i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done`))
	f.UntilLogged(id, "3")
	for range 2 {
		must(t, f.R.Pause(f.Ctx, id))
	}
	if st, err := f.R.Status(f.Ctx, id); err != nil || st.State != container.Paused {
		t.Errorf("paused: %+v %v", st, err)
	}
	// What was written before may still be on its way through the terminal; then nothing may come any more.
	time.Sleep(50 * time.Millisecond)
	before := f.Log(id)
	time.Sleep(150 * time.Millisecond)
	if after := f.Log(id); after != before {
		t.Errorf("it wrote %d bytes while paused", len(after)-len(before))
	}
	for range 2 {
		must(t, f.R.Resume(f.Ctx, id))
	}
	f.Until(id, "running", func(st container.Status) bool { return st.State == container.Running })
	f.UntilLogged(id, strconv.Itoa(strings.Count(before, "\n")+5))
	must(t, f.R.Kill(f.Ctx, id))
	for _, err := range []error{f.R.Pause(f.Ctx, id), f.R.Resume(f.Ctx, id)} {
		if !fault.Is(err, fault.BadState) {
			t.Errorf("pause or resume after the end: %v", err)
		}
	}
}

func testAgain(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell("echo first; exit 3"))
	wantExit(t, f.Exit(id), 3, "")
	if _, err := f.R.Start(f.Ctx, id, Spec("/bin/nonesuch"), f.Root); !fault.Is(err, fault.Invalid) {
		t.Errorf("start what is not there: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(f.Root, "bin/script"), []byte("#!/bin/nonesuch\n"), 0o755))
	if _, err := f.R.Start(f.Ctx, id, Spec("/bin/script"), f.Root); !fault.Is(err, fault.Invalid) {
		t.Errorf("start what cannot be executed: %v", err)
	}
	st, err := f.R.Status(f.Ctx, id)
	must(t, err)
	wantExit(t, st, 3, "")
	_, err = f.R.Start(f.Ctx, id, Shell("echo second"), f.Root)
	must(t, err)
	wantExit(t, f.Exit(id), 0, "")
	if log := f.Log(id); log != "first\nsecond\n" {
		t.Errorf("log %q", log)
	}
}

func testRemove(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell(Sleeper))
	for range 2 {
		must(t, f.R.Remove(f.Ctx, id))
	}
	must(t, f.R.Remove(f.Ctx, 4711))
	if st, err := f.R.Status(f.Ctx, id); err != nil || st.State != container.Absent {
		t.Errorf("removed: %+v %v", st, err)
	}
	if _, err := f.R.OpenLog(f.Ctx, id); !fault.Is(err, fault.NotFound) {
		t.Errorf("its log: %v", err)
	}
	ch, err := f.R.Watch(f.Ctx, id)
	must(t, err)
	if st := <-ch; st.State != container.Absent {
		t.Errorf("watched: %+v", st)
	}
	if _, ok := <-ch; ok {
		t.Error("the channel stays open after absent")
	}
	f.wantNothing()
}

// testAdopt lets a second runtime find what the first one made.
func testAdopt(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	running, before := f.Start(Shell(Sleeper))
	ended, _ := f.Start(Shell("echo done; exit 6"))
	f.Exit(ended)
	f.R = h.Again(t, f.R)
	ids, err := f.R.List(f.Ctx)
	must(t, err)
	if len(ids) != 2 {
		t.Errorf("found %v", ids)
	}
	st, err := f.R.Status(f.Ctx, running)
	must(t, err)
	if st != before {
		t.Errorf("was %+v, is %+v", before, st)
	}
	st, err = f.R.Status(f.Ctx, ended)
	must(t, err)
	wantExit(t, st, 6, "")
	if log := f.Log(ended); log != "done\n" {
		t.Errorf("log %q", log)
	}
	must(t, f.R.Kill(f.Ctx, running))
}

// testCancel ends the context at every moment of a start.
func testCancel(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	started := 0
	for d := time.Duration(0); d < 12*time.Millisecond; d += 500 * time.Microsecond {
		ctx, cancel := context.WithTimeout(f.Ctx, d)
		id := f.ID()
		_, err := f.R.Start(ctx, id, Shell(Sleeper), f.Root)
		cancel()
		if err == nil {
			started++
			must(t, f.R.Remove(f.Ctx, id))
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", d, err)
		}
		if st, err := f.R.Status(f.Ctx, id); err != nil || st.State != container.Absent {
			t.Errorf("after %v it is %+v %v", d, st, err)
		}
		f.wantNothing()
	}
	t.Logf("%d of 24 starts were faster than their context", started)
}
