package badinput

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

// A full upper is the container's own matter: its programs see ENOSPC, and it lives on.
func TestUpperThatIsFull(t *testing.T) {
	n, d := daemon.Start(t)
	fill := `/bin/sh -c 'trap "exit 0" TERM; dd if=/dev/zero of=/var/fill bs=64k; echo filled; while :; do sleep 1000 & wait $!; done'`
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container",
		container(overlay(squashfs(smallroot.Image(t)), `"upper":{"size":1048576}`), fill, running, `"name":"full"`), &c)
	says(t, logUntil(t, n, c.ID, "filled"), "No space left on device")
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), `{"command":["/bin/dd","if=/dev/zero","of=/var/more","bs=64k"]}`, &out)
	if out.ExitCode == 0 {
		t.Error("more could be written")
	}
	says(t, out.Stderr, "No space left on device")
	var list []*models.Container
	d.Want(http.StatusOK, http.MethodGet, "/container?name=full", nil, &list)
	if list[0].State != models.ContainerStateRunning || list[0].Pid != c.Pid {
		t.Errorf("state %q, pid %d; want running, %d", list[0].State, list[0].Pid, c.Pid)
	}
	d.Want(http.StatusOK, http.MethodPatch, "/container?name=full&state=exited", nil, nil)
	if ended := daemon.Wait(d, c.ID, "ended"); *ended.ExitCode != 0 {
		t.Errorf("exit code %d", *ended.ExitCode)
	}
	gone(t, d, c.ID)
	daemon.Untouched(t, n, d)
}

// On a full run directory nothing new can be made, which is said; what is there can be seen, used, stopped and deleted.
func TestRunDirectoryThatIsFull(t *testing.T) {
	n := daemon.NewNode(t)
	mountTmpfs(t, string(n.Dir), "size=8m")
	d := n.Start(daemon.Options{})
	img := smallroot.Image(t)
	command := `/bin/sh -c 'trap "exit 0" TERM; echo started; while :; do sleep 1000 & wait $!; done'`
	var lives models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(img)), command, running, `"name":"lives"`), &lives)
	var made []*models.Mount
	d.Want(http.StatusOK, http.MethodGet, "/mount", nil, &made)
	before := lasting(n)
	free := fill(t, filepath.Join(string(n.Dir), "fill"))

	for path, body := range map[string]string{
		"/attach":    loop(img),
		"/mount":     overlay(squashfs(img)),
		"/container": container(overlay(squashfs(img)), command, running, `"name":"more"`),
	} {
		status, e := daemon.Refused(t, d, http.MethodPost, path, body)
		if status != http.StatusServiceUnavailable {
			t.Errorf("POST %s: %d, want 503", path, status)
		}
		says(t, *e.Message, "no space left on device", string(n.Dir), "make room on it")
	}
	if after := lasting(n); !slices.Equal(before, after) {
		t.Errorf("what was refused has changed the node:\nbefore\n  %s\nafter\n  %s", strings.Join(before, "\n  "), strings.Join(after, "\n  "))
	}
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", lives.ID), `{"command":["/bin/echo","here"]}`, &out)
	if strings.TrimSpace(out.Stdout) != "here" {
		t.Errorf("exec: %+v", out)
	}
	d.Want(http.StatusOK, http.MethodPatch, "/container?name=lives&state=exited", nil, nil)
	if ended := daemon.Wait(d, lives.ID, "ended"); *ended.ExitCode != 0 {
		t.Errorf("exit code %d", *ended.ExitCode)
	}
	gone(t, d, lives.ID)

	free()
	var again models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(img)), smallroot.Waits, running, `"name":"lives"`), &again)
	gone(t, d, again.ID)
}

// A daemon cannot start on a full run directory that it has not been on before; it says why.
func TestStartOnFullRunDirectory(t *testing.T) {
	n := daemon.NewNode(t)
	mountTmpfs(t, string(n.Dir), "nr_inodes=1")
	_, err := n.TryStart(daemon.Options{})
	if err == nil {
		t.Fatal("it has started")
	}
	says(t, err.Error(), string(n.Dir), "no space left on device", "make room on it")
}

// lasting is what is on the node, without processes, which come and go in a container, and without the file that fills it.
func lasting(n *daemon.Node) []string {
	return slices.DeleteFunc(n.Left(), func(line string) bool {
		return strings.HasPrefix(line, "+ process") || strings.Contains(line, string(n.Dir)+"/fill")
	})
}

// mountTmpfs mounts one at dir until the test ends. What a daemon of the test has there is taken down before.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,"+options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
}

// fill writes to a file until there is no room; free removes it.
func fill(t *testing.T, path string) (free func()) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		_, err := io.CopyN(f, &endless{left: size}, int64(size))
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
