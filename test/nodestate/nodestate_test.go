package nodestate

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/rundir"
)

// TestDiffSeesEverything raises one real thing of each class and takes it down again.
func TestDiffSeesEverything(t *testing.T) {
	dir := t.TempDir()
	o := Options{RunDir: dir, PID: os.Getpid()}
	tests := map[string]struct {
		raise func(t *testing.T) (lower func())
		want  string
	}{
		"mount":       {raiseMount(dir), "+ mount " + dir + "/mounts/7 (tmpfs from "},
		"loop device": {raiseLoop(dir), "+ loop device "},
		"cgroup":      {raiseCgroup(rundir.Dir(dir).Instance()), "+ cgroup /sys/fs/cgroup"},
		"process":     {raiseProcess(dir), "+ process sh -c read -r line " + dir + "/x (pid "},
		"helper":      {raiseHelper(dir), "+ process windlass-shim helper (pid "},
		"socket":      {raiseSocket(dir), "+ socket " + dir + "/s"},
		"file":        {raiseFile(dir), "+ file " + dir + "/records/3.json"},
		"descriptor":  {raiseDescriptor(), "+ descriptor pipe (fd "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := rundir.Dir(dir).Make(); err != nil {
				t.Fatal(err)
			}
			before := take(t, o)
			lower := tt.raise(t)
			got := strings.Join(before.Diff(take(t, o)), "\n")
			lower()
			if !strings.Contains(got, tt.want) {
				t.Errorf("Diff says\n%s\nwant a line with %q", got, tt.want)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			diff, err := Settle(ctx, o, before)
			if err != nil || len(diff) > 0 {
				t.Errorf("after it was taken down: %v, %q", err, diff)
			}
		})
	}
}

// TestOthersAreNotSeen makes sure that tests that run side by side do not disturb each other.
func TestOthersAreNotSeen(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	for _, d := range []string{mine, other} {
		if err := rundir.Dir(d).Make(); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{RunDir: mine}
	before := take(t, o)
	for _, raise := range []func(*testing.T) func(){
		raiseMount(other), raiseLoop(other), raiseCgroup(rundir.Dir(other).Instance()), raiseProcess(other), raiseSocket(other), raiseFile(other),
	} {
		defer raise(t)()
	}
	if diff := before.Diff(take(t, o)); len(diff) > 0 {
		t.Errorf("another instance's things are seen: %q", diff)
	}
}

func TestNamed(t *testing.T) {
	tests := []struct {
		name string
		want bool
	}{
		{"windlass", true}, {"windlass:7", true}, {"windlass.slice", true}, {"windlass-0a1b2c", false}, {"windlass-0a1b2c:7", false}, {"wind", false}, {"", false},
	}
	f, err := newFilter(Options{RunDir: rundir.Default})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		if got := f.named(tt.name); got != tt.want {
			t.Errorf("named(%q) = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestInCgroup(t *testing.T) {
	other := Options{RunDir: "/run/other"}
	tests := []struct {
		o    Options
		path string
		want bool
	}{
		{Options{RunDir: rundir.Default}, "/windlass/windlass/7/payload", true},
		{Options{RunDir: rundir.Default}, "/windlass/windlass-0a1b2c/7", false},
		{Options{RunDir: rundir.Default}, "/user.slice", false},
		{other, "/windlass/" + rundir.Dir(other.RunDir).Instance() + "/7", true},
		{other, "/windlass/windlass/7", false},
		{other, "/windlass", false},
	}
	for _, tt := range tests {
		f, err := newFilter(tt.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.inCgroup(tt.path); got != tt.want {
			t.Errorf("%s in %s: %v, want %v", tt.path, tt.o.RunDir, got, tt.want)
		}
	}
}

func take(t *testing.T, o Options) State {
	t.Helper()
	s, err := Take(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// once makes fn safe to be called by the test and again when the test ends.
func once(t *testing.T, fn func()) func() {
	done := false
	f := func() {
		if !done {
			done = true
			fn()
		}
	}
	t.Cleanup(f)
	return f
}

func raiseMount(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		target := rundir.Dir(dir).Mount(7)
		must(t, os.Mkdir(target, 0o700))
		must(t, unix.Mount("tmpfs", target, "tmpfs", 0, "size=64k"))
		must(t, os.WriteFile(filepath.Join(target, "not-ours"), nil, 0o600))
		return once(t, func() {
			must(t, unix.Unmount(target, 0))
			must(t, os.Remove(target))
		})
	}
}

func raiseLoop(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		file := filepath.Join(dir, "backing")
		must(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
		out, err := exec.Command("losetup", "--find", "--show", file).Output()
		must(t, err)
		return once(t, func() {
			must(t, exec.Command("losetup", "-d", strings.TrimSpace(string(out))).Run())
			must(t, os.Remove(file))
		})
	}
}

func raiseCgroup(instance string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		top := "/sys/fs/cgroup"
		if _, err := os.Stat("/sys/fs/cgroup/pids"); err == nil {
			top = "/sys/fs/cgroup/pids"
		}
		dir := filepath.Join(top, instance)
		must(t, os.Mkdir(dir, 0o755))
		return once(t, func() { must(t, os.Remove(dir)) })
	}
}

func raiseProcess(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		cmd := exec.Command("sh", "-c", "read -r line", dir+"/x")
		in, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		return once(t, func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
	}
}

// raiseHelper starts a process that is called as one that waits for storage is, below one of the instance.
func raiseHelper(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		cmd := exec.Command("bash", "-c", `(exec -a windlass-shim cat helper); read -r line`, dir+"/x")
		cmd.Dir = t.TempDir()
		must(t, unix.Mkfifo(filepath.Join(cmd.Dir, "helper"), 0o600))
		in, err := cmd.StdinPipe()
		must(t, err)
		must(t, cmd.Start())
		fifo, err := os.OpenFile(filepath.Join(cmd.Dir, "helper"), os.O_WRONLY, 0) // once cat has it open it is called cat's name
		must(t, err)
		return once(t, func() {
			_, _ = fifo.Close(), in.Close()
			_ = cmd.Wait()
		})
	}
}

func raiseSocket(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		must(t, err)
		return once(t, func() { _ = l.Close() })
	}
}

func raiseFile(dir string) func(*testing.T) func() {
	return func(t *testing.T) func() {
		file := rundir.Dir(dir).Record(3)
		must(t, os.WriteFile(file, []byte("{}"), 0o600))
		return once(t, func() { must(t, os.Remove(file)) })
	}
}

func raiseDescriptor() func(*testing.T) func() {
	return func(t *testing.T) func() {
		r, w, err := os.Pipe()
		must(t, err)
		return once(t, func() { _, _ = r.Close(), w.Close() })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
