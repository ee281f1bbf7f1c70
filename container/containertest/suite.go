// Package containertest holds a container.Runtime to its contract, on real containers.
//
// A runtime's test calls Run with a way to make it; the suite makes root file systems of its own, from the machine's static busybox
// (package busybox-static) and, for systemd, from a Debian tree that the caller names. The package asserts what a caller sees and never looks into
// a runtime.
package containertest

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Harness says how to make what is tested.
type Harness struct {
	// New gives a runtime of its own, with nothing in it. What it leaves behind after all containers are removed is a failure that
	// New's own cleanup has to notice.
	New func(t *testing.T) container.Runtime
	// Again gives a second runtime on what the first one made, as a restarted daemon would.
	Again func(t *testing.T, r container.Runtime) container.Runtime
	// SystemdRoot is a Debian root file system with systemd. It is not written to.
	SystemdRoot string
	// LogSize is the size at which New's runtimes rotate logs.
	LogSize int64
}

// Patience bounds everything that a test waits for.
const Patience = 30 * time.Second

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Run("Validate", func(t *testing.T) { testValidate(t, h) })
	t.Run("Check", func(t *testing.T) { testCheck(t, h) })
	t.Run("Life", func(t *testing.T) { testLife(t, h) })
	t.Run("Exec", func(t *testing.T) { testExec(t, h) })
	t.Run("Log", func(t *testing.T) { testLog(t, h) })
	t.Run("Isolation", func(t *testing.T) { testIsolation(t, h) })
	t.Run("Limits", func(t *testing.T) { testLimits(t, h) })
	t.Run("Hostile", func(t *testing.T) { testHostile(t, h) })
	t.Run("Systemd", func(t *testing.T) { testSystemd(t, h) })
}

// Fixture is a runtime, a root and the means to use them in one test.
type Fixture struct {
	T    *testing.T
	R    container.Runtime
	Ctx  context.Context
	Root string
	next atomic.Int64
}

// NewFixture makes a fixture with a busybox root. All its containers are removed at the end.
func NewFixture(t *testing.T, h Harness) *Fixture {
	t.Helper()
	r := h.New(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	t.Cleanup(cancel)
	f := &Fixture{T: t, R: r, Ctx: ctx, Root: BusyboxRoot(t)}
	t.Cleanup(f.removeAll)
	return f
}

func (f *Fixture) removeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ids, err := f.R.List(ctx)
	if err != nil {
		f.T.Errorf("list: %v", err)
	}
	for _, id := range ids {
		if err := f.R.Remove(ctx, id); err != nil {
			f.T.Errorf("remove %d: %v", id, err)
		}
	}
}

// BusyboxRoot makes a root file system with busybox and the accounts root, user (1000, group 1000, also in 7) and nobody.
func BusyboxRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("the tests need a static busybox (apt-get install busybox-static): %v", err)
	}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "run", "tmp", "work"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755))
	for _, name := range strings.Fields("sh true false cat echo env hostname id kill ls mkdir mount pwd sleep stat stty tail touch umount wc yes dd ps head readlink mknod test seq trap printf grep ip reboot uptime cut rm od nc tty") {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\nnobody:x:65534:65534::/:\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\nuser:x:1000:\nlp:x:7:user,root\nnogroup:x:65534:\n"), 0o644))
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Option changes a spec.
type Option func(*models.Container)

// Spec is a container with a command.
func Spec(command string, opts ...Option) *models.Container {
	s := &models.Container{Command: &command}
	for _, o := range opts {
		o(s)
	}
	return s
}

// Shell is a container that runs a shell script.
func Shell(script string, opts ...Option) *models.Container {
	return Spec("/bin/sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"'", opts...)
}

// Sleeper runs until it is killed. It tells the log when it is up.
const Sleeper = "echo up; while true; do sleep 1000; done"

func namespaces(names ...models.ContainerNamespace) Option {
	return func(s *models.Container) { s.Namespaces = names }
}

// ID gives a new one.
func (f *Fixture) ID() container.ID { return container.ID(f.next.Add(1)) }

// Start starts a container and fails the test when it does not.
func (f *Fixture) Start(spec *models.Container) (container.ID, container.Status) {
	f.T.Helper()
	id := f.ID()
	st, err := f.R.Start(f.Ctx, id, spec, f.Root)
	if err != nil {
		f.T.Fatalf("start: %v", err)
	}
	return id, st
}

// Until waits for a status that is wanted.
func (f *Fixture) Until(id container.ID, what string, wanted func(container.Status) bool) container.Status {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.Ctx, Patience)
	defer cancel()
	ch, err := f.R.Watch(ctx, id)
	if err != nil {
		f.T.Fatalf("watch: %v", err)
	}
	var last container.Status
	for st := range ch {
		if last = st; wanted(st) {
			return st
		}
	}
	f.T.Fatalf("container %d never was %s, last %+v; its log:\n%s", id, what, last, f.Log(id))
	return last
}

// Exit waits for the end.
func (f *Fixture) Exit(id container.ID) container.Status {
	f.T.Helper()
	return f.Until(id, "exited", func(st container.Status) bool { return st.State == container.Exited })
}

// Run runs a container to its end and gives its log.
func (f *Fixture) Run(spec *models.Container) (container.Status, string) {
	f.T.Helper()
	id, _ := f.Start(spec)
	st := f.Exit(id)
	return st, f.Log(id)
}

// Log reads all of the log.
func (f *Fixture) Log(id container.ID) string {
	l, err := f.R.OpenLog(f.Ctx, id)
	if err != nil {
		return "no log: " + err.Error()
	}
	defer l.Close()
	b, err := io.ReadAll(l)
	if err != nil {
		return "no log: " + err.Error()
	}
	return string(b)
}

// UntilLogged waits until the log holds a text.
func (f *Fixture) UntilLogged(id container.ID, text string) {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.Ctx, Patience)
	defer cancel()
	l, err := f.R.OpenLog(ctx, id)
	must(f.T, err)
	defer l.Close()
	var all []byte
	for !strings.Contains(string(all), text) {
		if err := l.WaitMore(ctx, int64(len(all))); err != nil {
			f.T.Fatalf("wait for %q in the log: %v; it holds %q", text, err, all)
		}
		b, err := io.ReadAll(l)
		must(f.T, err)
		all = append(all, b...)
	}
}

func wantExit(t *testing.T, st container.Status, code int, signal string) {
	t.Helper()
	if st.State != container.Exited || st.ExitCode != code || st.ExitSignal != signal {
		t.Errorf("ended as %+v, want code %d signal %q", st, code, signal)
	}
}

func wantContains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}
