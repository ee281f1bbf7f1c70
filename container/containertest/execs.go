package containertest

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func testExec(t *testing.T, h Harness) {
	for name, opt := range map[string]Option{
		"plain":           func(*models.Container) {},
		"user namespace":  namespaces("user"),
		"user, net, time": namespaces("user", "net", "time"),
	} {
		t.Run(name, func(t *testing.T) { testExecIn(t, h, opt) })
	}
	t.Run("not running", func(t *testing.T) {
		f := NewFixture(t, h)
		id, _ := f.Start(Spec("/bin/true"))
		f.Exit(id)
		for _, id := range []container.ID{id, 999} {
			if _, err := f.R.Exec(f.Ctx, id, &models.ExecSpec{Command: []string{"true"}}); !fault.Is(err, fault.BadState) {
				t.Errorf("exec in container %d: %v", id, err)
			}
		}
	})
	t.Run("ends with the container", func(t *testing.T) {
		f := NewFixture(t, h)
		id, _ := f.Start(Shell(Sleeper))
		p := f.exec(id, &models.ExecSpec{Command: []string{"sleep", "1000"}})
		defer p.Close()
		must(t, f.R.Kill(f.Ctx, id))
		exit, err := p.Wait(f.Ctx)
		if err != nil || exit.Signal != "SIGKILL" {
			t.Errorf("exit %+v %v", exit, err)
		}
	})
}

func (f *Fixture) exec(id container.ID, spec *models.ExecSpec) container.Process {
	f.T.Helper()
	p, err := f.R.Exec(f.Ctx, id, spec)
	if err != nil {
		f.T.Fatalf("exec %q: %v", spec.Command, err)
	}
	return p
}

// ExecOutput runs a process to its end.
func (f *Fixture) ExecOutput(id container.ID, spec *models.ExecSpec, stdin string) (out, errs string, exit container.Exit) {
	f.T.Helper()
	p := f.exec(id, spec)
	defer p.Close()
	ctx, cancel := context.WithTimeout(f.Ctx, Patience)
	defer cancel()
	go func() {
		_, _ = io.WriteString(p.Stdin(), stdin)
		_ = p.Stdin().Close()
	}()
	stderr := make(chan string, 1)
	go func() {
		if p.Stderr() == nil {
			stderr <- ""
			return
		}
		b, _ := io.ReadAll(p.Stderr())
		stderr <- string(b)
	}()
	b, err := io.ReadAll(p.Stdout())
	must(f.T, err)
	exit, err = p.Wait(ctx)
	must(f.T, err)
	return string(b), <-stderr, exit
}

func testExecIn(t *testing.T, h Harness, opt Option) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell(Sleeper, opt, env("FROM", "container"), workDir("/work")))
	sh := func(script string) *models.ExecSpec { return &models.ExecSpec{Command: []string{"sh", "-c", script}} }

	out, errs, exit := f.ExecOutput(id, sh("cat; echo err >&2; exit 7"), "to stdin")
	if out != "to stdin" || errs != "err\n" || exit.Code != 7 || exit.Signal != "" {
		t.Errorf("got %q %q %+v", out, errs, exit)
	}
	out, _, _ = f.ExecOutput(id, sh("echo $FROM $MORE $NOTIFY_SOCKET; pwd; id -u; id -G; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid"), "")
	lines := strings.Split(out, "\n")
	if len(lines) < 6 || lines[4] == "" || lines[0] != "container" || lines[1] != "/work" || lines[2] != "0" || lines[4] != lines[5] {
		t.Errorf("inside: %q", out)
	}
	spec := sh("echo $MORE $FROM; pwd; id -u; id -G")
	spec.User, spec.WorkingDir, spec.Env = "user", "/tmp", map[string]string{"MORE": "more", "FROM": "exec"}
	if out, _, _ = f.ExecOutput(id, spec, ""); out != "more exec\n/tmp\n1000\n1000 7\n" {
		t.Errorf("as user: %q", out)
	}
	spec.User = "1234:4321"
	if out, _, _ = f.ExecOutput(id, spec, ""); out != "more exec\n/tmp\n1234\n4321\n" {
		t.Errorf("as numbers: %q", out)
	}
	if _, _, exit = f.ExecOutput(id, sh("kill -KILL $$"), ""); exit.Code != 137 || exit.Signal != "SIGKILL" {
		t.Errorf("killed: %+v", exit)
	}
	f.testExecErrors(id)
	f.testTerminal(id)
	f.testExecFiles(id)
	f.testClose(id)
}

func (f *Fixture) testExecErrors(id container.ID) {
	for name, spec := range map[string]*models.ExecSpec{
		"not in PATH":    {Command: []string{"nonesuch"}},
		"no such path":   {Command: []string{"/bin/nonesuch"}},
		"a directory":    {Command: []string{"/bin"}},
		"not executable": {Command: []string{"/etc/passwd"}},
		"empty":          {Command: []string{""}},
		"nothing":        {},
		"working dir":    {Command: []string{"true"}, WorkingDir: "/nowhere"},
		"unknown user":   {Command: []string{"true"}, User: "whoever"},
	} {
		if _, err := f.R.Exec(f.Ctx, id, spec); !fault.Is(err, fault.Invalid) {
			f.T.Errorf("%s: %v", name, err)
		}
	}
}

func (f *Fixture) testTerminal(id container.ID) {
	f.T.Helper()
	p := f.exec(id, &models.ExecSpec{Command: []string{"sh", "-c", "stty size; read x; stty size; echo got $x; tty; cat; exit 3"}, Tty: ptr(true), Rows: ptr(int64(33)), Columns: ptr(int64(99))})
	defer p.Close()
	if p.Stderr() != nil {
		f.T.Error("a terminal has no stderr of its own")
	}
	var all []byte
	until := func(text string) {
		buf := make([]byte, 1024)
		for !strings.Contains(string(all), text) {
			n, err := p.Stdout().Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				f.T.Fatalf("wait for %q: %v; got %q", text, err, all)
			}
		}
	}
	until("33 99")
	must(f.T, p.Resize(44, 111))
	_, err := io.WriteString(p.Stdin(), "hello\n")
	must(f.T, err)
	until("44 111")
	until("got hello")
	until("/dev/pts/")
	must(f.T, p.Stdin().Close()) // end of file for cat
	rest, err := io.ReadAll(p.Stdout())
	if err != nil {
		f.T.Errorf("read to the end: %v, %q", err, rest)
	}
	if exit, err := p.Wait(f.Ctx); err != nil || exit.Code != 3 {
		f.T.Errorf("exit %+v %v", exit, err)
	}
}

// testExecFiles sees that nothing but 0, 1 and 2 is open, and that capabilities are those of the first process.
func (f *Fixture) testExecFiles(id container.ID) {
	script := "ls /proc/self/fd | wc -l; grep CapBnd /proc/1/status; grep CapBnd /proc/self/status"
	out, _, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", script}}, "")
	lines := strings.Split(out, "\n")
	if len(lines) < 3 || strings.TrimSpace(lines[0]) != "4" || lines[1] != lines[2] { // 4: and the directory that ls reads
		f.T.Errorf("files and capabilities: %q", out)
	}
}

// testClose sees that Close ends a process.
func (f *Fixture) testClose(id container.ID) {
	p := f.exec(id, &models.ExecSpec{Command: []string{"sh", "-c", "echo up; exec sleep 4321"}})
	buf := make([]byte, 3)
	_, err := io.ReadFull(p.Stdout(), buf)
	must(f.T, err)
	must(f.T, p.Close())
	must(f.T, p.Close())
	for range 200 { // nothing tells of the end of a process whose connection is gone
		out, _, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", "ps | grep -c 'sleep [4]321'"}}, "")
		if strings.TrimSpace(out) == "0" {
			return
		}
	}
	f.T.Error("the process lives on after Close")
}
