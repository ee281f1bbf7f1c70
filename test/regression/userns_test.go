package regression

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

// debian is the image that test/rootfs.sh makes.
func debian(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WINDLASS_CACHE")
	if dir == "" {
		dir = "/var/cache/windlass-test"
	}
	if _, err := os.Stat(dir + "/debian.squashfs"); err != nil {
		t.Fatalf("%v: make it with test/rootfs.sh", err)
	}
	return dir + "/debian.squashfs"
}

func withUsers(c *models.Container) *models.Container {
	c.Namespaces = []models.ContainerNamespace{models.ContainerNamespaceUser}
	return c
}

// nodeUser is the uid of a process as the node sees it.
func nodeUser(t *testing.T, pid int64) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:\t"); ok {
			return strings.Fields(ids)[0]
		}
	}
	t.Fatalf("no Uid in %s", status)
	return ""
}

// run runs a shell script in a container and gives what it wrote.
func run(t *testing.T, d *daemon.Daemon, id models.ID, script string) string {
	t.Helper()
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", id), &models.ExecSpec{Command: []string{"/bin/sh", "-ec", script}}, &out)
	if out.ExitCode != 0 {
		t.Errorf("%s: %+v", script, out)
	}
	return out.Stdout
}

// TestUserNamespaceOnAnOverlay is for the usual root, an overlay, which the kernel cannot show with other ids.
func TestUserNamespaceOnAnOverlay(t *testing.T) {
	n, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", withUsers(running("users", smallroot.Image(t), smallroot.Waits)), &c)
	if uid := nodeUser(t, c.Pid); uid == "0" {
		t.Error("on the node it is root")
	}
	script := `id -u; echo mine >/root/made; echo user:x:1001:1001::/:/bin/sh >>/etc/passwd; stat -c '%n %u:%g' / /bin/busybox /etc/passwd /root/made`
	if got, want := run(t, d, c.ID, script), "0\n/ 0:0\n/bin/busybox 0:0\n/etc/passwd 0:0\n/root/made 0:0\n"; got != want {
		t.Errorf("inside: %q, want %q", got, want)
	}
	var made unix.Stat_t
	if err := unix.Stat(n.Dir.Mount(int64(c.Mount.ID))+"/root/made", &made); err != nil || strconv.Itoa(int(made.Uid)) != nodeUser(t, c.Pid) {
		t.Errorf("on the node what it made belongs to %d, %v; it runs as %s", made.Uid, err, nodeUser(t, c.Pid))
	}
	// The next daemon knows it, and a second container does not share its ids.
	d.Kill()
	d = n.Start(daemon.Options{})
	if got := run(t, d, c.ID, "cat /root/made"); got != "mine\n" {
		t.Errorf("after a restart: %q", got)
	}
	var other models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", withUsers(running("other", smallroot.Image(t), smallroot.Waits)), &other)
	if nodeUser(t, other.Pid) == nodeUser(t, c.Pid) {
		t.Error("two containers have the same ids on the node")
	}
	d.Want(http.StatusOK, http.MethodDelete, "/container?force=true&name=other", nil, nil)
	daemon.Gone(t, d, "name=users")
	daemon.Untouched(t, n, d)
}

// TestUserNamespaceOnANamedOverlay is for an overlay that was mounted for whoever comes, and has the ids of the image.
func TestUserNamespaceOnANamedOverlay(t *testing.T) {
	_, d := daemon.Start(t)
	var m models.Mount
	d.Want(http.StatusCreated, http.MethodPost, "/mount", overlay(squashfs(smallroot.Image(t))), &m)
	c := withUsers(running("users", "", smallroot.Waits))
	c.Mount = &models.Mount{ID: m.ID}
	_, e := daemon.Refused(t, d, http.MethodPost, "/container", c)
	if !strings.Contains(*e.Message, "overlay") || !strings.Contains(*e.Message, "define the overlay in the container") {
		t.Errorf("the message is %q", *e.Message)
	}
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/mount?id=%d", m.ID), nil, nil)
}

func TestSystemdInAUserNamespace(t *testing.T) {
	_, d := daemon.Start(t)
	spec := withUsers(running("debian", debian(t), "/sbin/init"))
	spec.Systemd = true
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", spec, &c)
	daemon.Wait(d, c.ID, "ready")
	if got := run(t, d, c.ID, "systemctl is-system-running --wait; systemctl --failed --no-legend; id -u"); got != "running\n0\n" {
		t.Errorf("inside: %q\n%s", got, log(t, d, c.ID))
	}
	if uid := nodeUser(t, c.Pid); uid == "0" {
		t.Error("on the node it is root")
	}
	if got := run(t, d, c.ID, `setpriv --reuid=1000 --clear-groups cat /run/host/container-manager`); got != "windlass\n" {
		t.Errorf("what runs it says, to a user: %q", got)
	}
	daemon.Gone(t, d, "name=debian")
}
