package containertest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func ptr[T any](v T) *T { return &v }

func bind(source, target string, ro bool) Option {
	return func(s *models.Container) {
		s.Binds = append(s.Binds, &models.ContainerBind{Source: &source, Target: &target, Ro: &ro})
	}
}

func testValidate(t *testing.T, h Harness) {
	r := h.New(t)
	for name, c := range map[string]struct {
		spec *models.Container
		want string
	}{
		"no command":          {&models.Container{}, "command is missing"},
		"empty command":       {Spec("  "), "command is empty"},
		"single quote":        {Spec("/bin/sh -c 'true"), "single quote"},
		"double quote":        {Spec(`/bin/sh -c "true`), "double quote"},
		"backslash":           {Spec(`/bin/sh \`), "backslash"},
		"relative command":    {Spec("bin/sh"), "relative"},
		"NUL in command":      {Spec("/bin/sh\x00"), "NUL"},
		"relative workdir":    {Spec("/bin/sh", func(s *models.Container) { s.WorkingDir = "tmp" }), "working_dir"},
		"dotted workdir":      {Spec("/bin/sh", func(s *models.Container) { s.WorkingDir = "/a/../b" }), "working_dir"},
		"env name":            {Spec("/bin/sh", env("A=B", "")), "env"},
		"env empty":           {Spec("/bin/sh", env("", "x")), "env"},
		"env NUL":             {Spec("/bin/sh", env("A", "x\x00")), "NUL"},
		"relative bind":       {Spec("/bin/sh", bind("tmp", "/x", true)), "source"},
		"dotted bind":         {Spec("/bin/sh", bind("/tmp", "/x/../..", true)), "target"},
		"bind twice":          {Spec("/bin/sh", bind("/tmp", "/x", true), bind("/usr", "/x/", true)), "twice"},
		"bind over proc":      {Spec("/bin/sh", bind("/tmp", "/proc", true)), "/proc"},
		"bind over all":       {Spec("/bin/sh", bind("/tmp", "/", true)), "/"},
		"null bind":           {Spec("/bin/sh", func(s *models.Container) { s.Binds = []*models.ContainerBind{nil} }), "binds"},
		"unknown namespace":   {Spec("/bin/sh", namespaces("ptp")), "ptp"},
		"little memory":       {Spec("/bin/sh", func(s *models.Container) { s.Limits = &models.ContainerLimits{Memory: 10} }), "memory"},
		"negative pids":       {Spec("/bin/sh", func(s *models.Container) { s.Limits = &models.ContainerLimits{Pids: -1} }), "pids"},
		"hostname with slash": {Spec("/bin/sh", func(s *models.Container) { s.Hostname = "a/b" }), "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.Validate(c.spec)
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want invalid with %q", err, c.want)
			}
		})
	}
	if err := r.Validate(Shell("true", namespaces("mnt", "pid", "net", "user", "time"))); err != nil {
		t.Errorf("a good spec: %v", err)
	}
}

func env(name, value string) Option {
	return func(s *models.Container) {
		if s.Env == nil {
			s.Env = map[string]string{}
		}
		s.Env[name] = value
	}
}

func user(u string) Option { return func(s *models.Container) { s.User = u } }

func workDir(d string) Option { return func(s *models.Container) { s.WorkingDir = d } }

// testCheck holds both Check and Start to the same answers.
func testCheck(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	must(t, os.WriteFile(filepath.Join(f.Root, "bin/data"), []byte("x"), 0o644))
	must(t, os.Symlink("/nowhere/at/all", filepath.Join(f.Root, "bin/dangling")))
	must(t, os.Symlink("loop", filepath.Join(f.Root, "bin/loop")))
	must(t, unix.Mkfifo(filepath.Join(f.Root, "bin/fifo"), 0o755))
	for name, c := range map[string]struct {
		spec *models.Container
		want string
	}{
		"missing init":        {Spec("/sbin/init"), "/sbin/init: no such file in the image"},
		"missing in PATH":     {Spec("nonesuch"), "nonesuch: no such file in the image"},
		"not executable":      {Spec("/bin/data"), "not executable"},
		"a directory":         {Spec("/bin"), "is a directory"},
		"a fifo":              {Spec("/bin/fifo"), "no regular file"},
		"dangling link":       {Spec("/bin/dangling"), "no such file in the image"},
		"circular link":       {Spec("/bin/loop"), "leads nowhere"},
		"unknown user":        {Spec("/bin/true", user("whoever")), "whoever"},
		"unknown group":       {Spec("/bin/true", user("user:whoever")), "whoever"},
		"half a user":         {Spec("/bin/true", user("user:")), "user:group"},
		"missing working dir": {Spec("/bin/true", workDir("/srv")), "/srv: no such directory"},
		"file as working dir": {Spec("/bin/true", workDir("/etc/passwd")), "no directory"},
	} {
		t.Run(name, func(t *testing.T) {
			for verb, err := range map[string]error{"check": f.R.Check(f.Ctx, c.spec, f.Root), "start": f.startError(c.spec)} {
				if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want invalid with %q", verb, err, c.want)
				}
			}
		})
	}
	if err := f.R.Check(f.Ctx, Spec("sh -c true", user("user:lp"), workDir("/work")), f.Root); err != nil {
		t.Errorf("a good spec: %v", err)
	}
	f.wantNothing()
}

// startError starts what cannot start.
func (f *Fixture) startError(spec *models.Container) error {
	_, err := f.R.Start(f.Ctx, f.ID(), spec, f.Root)
	return err
}

// wantNothing asserts that there is nothing of any container.
func (f *Fixture) wantNothing() {
	f.T.Helper()
	if ids, err := f.R.List(f.Ctx); err != nil || len(ids) > 0 {
		f.T.Errorf("left behind: %v %v", ids, err)
	}
}

// testHostile gives the runtime images that want to reach the node or to hang it.
func testHostile(t *testing.T, h Harness) {
	for _, place := range []string{"proc", "sys", "dev", "run", "tmp"} {
		for _, to := range []string{"/", "../../../../../../etc", "/etc"} {
			t.Run(place+" is a link to "+strings.ReplaceAll(to, "/", "_"), func(t *testing.T) {
				f := NewFixture(t, h)
				must(t, os.Remove(filepath.Join(f.Root, place)))
				must(t, os.Symlink(to, filepath.Join(f.Root, place)))
				before := mounts(t, f.Root)
				err := f.startError(Spec("/bin/true"))
				if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "/"+place) {
					t.Errorf("got %v, want invalid that names /%s", err, place)
				}
				if after := mounts(t, f.Root); after != before {
					t.Errorf("the node's mounts changed:\n%s\nto\n%s", before, after)
				}
				f.wantNothing()
			})
		}
	}
	for name, spoil := range map[string]func(path string) error{
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o644) },
		"device":    func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"huge":      func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
		"link out":  func(p string) error { return os.Symlink("/proc/self/environ", p) },
		"long line": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("x", 5<<20)), 0o644) },
	} {
		t.Run("passwd is a "+name, func(t *testing.T) {
			f := NewFixture(t, h)
			passwd := filepath.Join(f.Root, "etc/passwd")
			must(t, os.Remove(passwd))
			must(t, spoil(passwd))
			if name == "huge" {
				must(t, os.Truncate(passwd, 1<<40))
			}
			ctx, cancel := context.WithTimeout(f.Ctx, 5*time.Second)
			defer cancel()
			if err := f.R.Check(ctx, Spec("/bin/true", user("user")), f.Root); !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v, want invalid", err)
			}
		})
	}
}

// mounts lists what is mounted on the node where a container gone astray would mount something. Elsewhere others may be at work.
func mounts(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	var out strings.Builder
	for _, line := range strings.SplitAfter(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch top := strings.SplitN(f[1]+"/", "/", 3)[1]; {
		case strings.HasPrefix(f[1], root), top == "proc", top == "sys", top == "dev", top == "etc", f[1] == "/", f[1] == "/run", f[1] == "/tmp":
			out.WriteString(line)
		}
	}
	return out.String()
}
