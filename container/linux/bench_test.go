package linux_test

import (
	"context"
	"encoding/json"

	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// The benchmarks run ours and crun in turn, and report the medians:
//
//	go test -run '^$' -bench . -benchtime 200x ./container/linux

// median reports the median of what was measured under a name, in milliseconds.
func median(b *testing.B, name string, d []time.Duration) {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, name+"-ms")
}

func benchRuntime(b *testing.B) (*linux.Runtime, context.Context) {
	b.Helper()
	run := b.TempDir()
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "mode=700"); err != nil { // as /run is: syncing costs nothing there
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Unmount(run, 0) })
	dir := rundir.Dir(run)
	if err := dir.Make(); err != nil {
		b.Fatal(err)
	}
	r, err := linux.New(config(dir))
	if err != nil {
		b.Fatal(err)
	}
	return r, context.Background()
}

// bundle is an OCI bundle as `crun spec` makes it, with a root and a command, without a terminal.
func bundle(b *testing.B, root string, args ...string) string {
	b.Helper()
	dir := b.TempDir()
	cmd := exec.Command("crun", "spec")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("crun spec (apt-get install crun): %v\n%s", err, out)
	}
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		b.Fatal(err)
	}
	spec["root"] = map[string]any{"path": root}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = args, false
	if data, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	return dir
}

// crun runs crun with a state directory of its own. That of Debian 12 refuses hybrid cgroups with controllers in version 2, so it does not
// see version 2: it is run from a thread whose mount namespace lacks it.
type crun struct {
	b     *testing.B
	state string
	calls chan func()
}

func newCrun(b *testing.B) *crun {
	b.Helper()
	c := &crun{b: b, state: b.TempDir(), calls: make(chan func())}
	ready := make(chan error)
	go offMainThread(func() {
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if _, serr := os.Stat("/sys/fs/cgroup/unified"); err == nil && serr == nil {
			err = unix.Unmount("/sys/fs/cgroup/unified", 0)
		}
		ready <- err
		for call := range c.calls {
			call()
		}
	})
	if err := <-ready; err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { close(c.calls) })
	return c
}

// offMainThread runs fn on a thread of its own, which ends with it. The main thread would lend its mounts to /proc/self.
func offMainThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		offMainThread(fn)
	}()
	<-done
	runtime.UnlockOSThread()
}

// do runs one command and gives the time from fork to the end.
func (c *crun) do(args ...string) time.Duration {
	c.b.Helper()
	type result struct {
		d   time.Duration
		err error
	}
	done := make(chan result)
	c.calls <- func() {
		cmd := exec.Command("crun", append([]string{"--root", c.state}, args...)...)
		start := time.Now()
		err := cmd.Run()
		done <- result{time.Since(start), err}
	}
	r := <-done
	if r.err != nil {
		c.b.Fatalf("crun %v: %v", args, r.err)
	}
	return r.d
}

func timed(fn func()) time.Duration {
	t := time.Now()
	fn()
	return time.Since(t)
}

// BenchmarkTrue is start → exit of /bin/true. Ours ends when the last words are on disk and the watcher has them; with what Remove
// takes it is as much as crun run does, which also deletes.
func BenchmarkTrue(b *testing.B) {
	r, ctx := benchRuntime(b)
	root := containertest.BusyboxRoot(b)
	other, spec := newCrun(b), bundle(b, root, "/bin/true")
	var ours, total, theirs []time.Duration
	for i := range b.N {
		id := container.ID(i + 1)
		start := time.Now()
		if _, err := r.Start(ctx, id, containertest.Spec("/bin/true"), root); err != nil {
			b.Fatal(err)
		}
		ch, err := r.Watch(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		for range ch {
		}
		ours = append(ours, time.Since(start))
		if err := r.Remove(ctx, id); err != nil {
			b.Fatal(err)
		}
		total = append(total, time.Since(start))
		theirs = append(theirs, other.do("run", "--bundle", spec, "bench"))
	}
	median(b, "exit", ours)
	median(b, "removed", total)
	median(b, "crun", theirs)
}

// BenchmarkExec is exec of /bin/true in a running container, from the call to the exit.
func BenchmarkExec(b *testing.B) {
	r, ctx := benchRuntime(b)
	root := containertest.BusyboxRoot(b)
	if _, err := r.Start(ctx, 1, containertest.Spec("/bin/sleep 100000"), root); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := r.Remove(ctx, 1); err != nil {
			b.Error(err)
		}
	}()
	other := newCrun(b)
	other.do("run", "--detach", "--bundle", bundle(b, root, "/bin/sleep", "100000"), "bench")
	defer other.do("delete", "--force", "bench")
	var ours, theirs []time.Duration
	for range b.N {
		ours = append(ours, timed(func() {
			p, err := r.Exec(ctx, 1, &models.ExecSpec{Command: []string{"/bin/true"}})
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, p.Stdout())
			if _, err := p.Wait(ctx); err != nil {
				b.Fatal(err)
			}
			p.Close()
		}))
		theirs = append(theirs, other.do("exec", "bench", "/bin/true"))
	}
	median(b, "exec", ours)
	median(b, "crun", theirs)
}
