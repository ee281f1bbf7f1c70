package sysprog

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func shell(p *Program, script string) {
	p.Call("execute the shell", unix.SYS_EXECVE, p.Str("/bin/sh"), p.Strings([]string{"sh", "-c", script}), p.Strings(nil))
}

func exitOf(t *testing.T, pid int) int {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws.ExitStatus()
}

// Both ways of cloning run the calls, feed an answer to a later call and skip after an allowed failure.
func TestProgramRuns(t *testing.T) {
	for _, shared := range []bool{true, false} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			dir := t.TempDir()
			p := &Program{}
			p.Call("remove what is not there", unix.SYS_UNLINKAT, ^uintptr(99), p.Str(dir+"/none"), 0).Allow(unix.ENOENT).Skip(1)
			p.Call("skipped", unix.SYS_CHDIR, p.Str("/nowhere"))
			p.Call("no such call", 9999).Try()
			open := p.Call("create", unix.SYS_OPENAT, ^uintptr(99), p.Str(dir+"/made"), unix.O_CREAT|unix.O_WRONLY, 0o600)
			p.Call("write", unix.SYS_WRITE, 0, p.Str("hello"), 5).On(open)
			p.Call("close", unix.SYS_CLOSE).On(open)
			shell(p, "exit 7")
			c, err := p.Start(0, -1, shared)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(c.Pidfd)
			if err := c.Result(); err != nil {
				t.Fatal(err)
			}
			if code := exitOf(t, c.PID); code != 7 {
				t.Errorf("exit code %d, want 7", code)
			}
			if b, err := os.ReadFile(dir + "/made"); string(b) != "hello" {
				t.Errorf("file holds %q, %v", b, err)
			}
		})
	}
}

func TestFailureNamesTheCall(t *testing.T) {
	for _, shared := range []bool{true, false} {
		p := &Program{}
		p.Call("go nowhere", unix.SYS_CHDIR, p.Str("/does/not/exist"))
		shell(p, "true")
		c, err := p.Start(0, -1, shared)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(c.Pidfd)
		err = c.Result()
		exitOf(t, c.PID)
		var e *Error
		if !errors.As(err, &e) || e.What != "go nowhere" || !errors.Is(err, unix.ENOENT) {
			t.Errorf("shared=%v: %v", shared, err)
		}
	}
}

func TestOffsets(t *testing.T) {
	var o op
	if unsafe.Offsetof(o.allow) != 56 || unsafe.Offsetof(o.skip) != 72 || unsafe.Offsetof(o.result) != 96 || unsafe.Sizeof(o) != 104 {
		t.Fatal("the assembly has other offsets")
	}
}
