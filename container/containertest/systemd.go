package containertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func testSystemd(t *testing.T, h Harness) {
	if _, err := os.Stat(filepath.Join(h.SystemdRoot, "usr/lib/systemd/systemd")); err != nil {
		t.Fatalf("no Debian root file system with systemd: %v", err)
	}
	for name, opts := range map[string][]Option{
		"plain":     nil,
		"net":       {namespaces("net")},
		"user, net": {namespaces("user", "net")},
		"user":      {namespaces("user")},
		"limited": {func(s *models.Container) {
			s.Limits = &models.ContainerLimits{Memory: 512 << 20, CPU: 2, Pids: 500}
		}},
	} {
		t.Run(name, func(t *testing.T) { testSystemdUp(t, h, opts) })
	}
}

// testSystemdUp starts systemd on something writable over the shared tree, which stays as it is: an overlay, or, since an overlay cannot be
// shown in a user namespace, a copy.
func testSystemdUp(t *testing.T, h Harness, opts []Option) {
	f := NewFixture(t, h)
	spec := Spec("/sbin/init", append(opts, func(s *models.Container) { s.Systemd = true })...)
	if strings.Contains(t.Name(), "user") {
		f.Root = copyOf(t, h.SystemdRoot)
	} else {
		f.Root = overlayOn(t, h.SystemdRoot)
	}
	id, st := f.Start(spec)
	if st.Ready {
		t.Error("ready at once")
	}
	f.Until(id, "ready", func(st container.Status) bool { return st.Ready })
	out, errs, exit := f.ExecOutput(id, &models.ExecSpec{Command: []string{"systemctl", "is-system-running", "--wait"}}, "")
	if out != "running\n" || exit.Code != 0 {
		failed, _, _ := f.ExecOutput(id, &models.ExecSpec{Command: []string{"systemctl", "--failed", "--no-pager"}}, "")
		t.Errorf("the system is %q %q %+v\n%s", out, errs, exit, failed)
	}
	out, _, _ = f.ExecOutput(id, &models.ExecSpec{Command: []string{"sh", "-c", "systemd-detect-virt -c; ls /run/host; systemctl is-active dbus systemd-logind; cat /etc/machine-id"}}, "")
	wantContains(t, "inside", out, "container-manager", "notify", "active\nactive\n")
	// Nobody but the first process is believed to be ready or going down.
	f.ExecOutput(id, &models.ExecSpec{Command: []string{"systemd-notify", "STOPPING=1"}, Env: map[string]string{"NOTIFY_SOCKET": "/run/host/notify"}}, "")
	if st, err := f.R.Status(f.Ctx, id); err != nil || !st.Ready {
		t.Errorf("after somebody else's word: %+v %v", st, err)
	}
	if strings.HasSuffix(t.Name(), "/net") {
		f.ExecOutput(id, &models.ExecSpec{Command: []string{"systemctl", "reboot"}}, "")
		if st = f.Exit(id); st.Error == "" {
			t.Error("nothing says that it asked to be started again")
		}
		wantExit(t, st, 133, "")
		return
	}
	must(t, f.R.Signal(f.Ctx, id, 37)) // SIGRTMIN+3
	st = f.Exit(id)
	wantExit(t, st, 0, "")
	if st.Error != "" {
		t.Errorf("ended with %q", st.Error)
	}
}

func overlayOn(t *testing.T, lower string) string {
	t.Helper()
	base := t.TempDir()
	must(t, unix.Mount("tmpfs", base, "tmpfs", 0, "size=256m,mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(base, 0)) })
	for _, d := range []string{"u", "w", "root"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o755))
	}
	root := filepath.Join(base, "root")
	must(t, unix.Mount("overlay", root, "overlay", 0, "lowerdir="+lower+",upperdir="+base+"/u,workdir="+base+"/w"))
	t.Cleanup(func() { must(t, unix.Unmount(root, 0)) })
	return root
}

// copyOf copies a tree to the disk: before Linux 6.3 no tmpfs can be shown in a user namespace.
func copyOf(t *testing.T, tree string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("cp", "-a", tree, root).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", tree, err, out)
	}
	return root
}
