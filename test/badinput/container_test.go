package badinput

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

func TestContainersThatCannotStart(t *testing.T) {
	root := overlay(squashfs(smallroot.Image(t)))
	start := func(command string, more ...string) string {
		return container(root, command, append([]string{running, `"name":"never"`}, more...)...)
	}
	post(t, []mistake{
		{"missing init", "/container", start("/sbin/nothing"), 400, 0, []string{"/sbin/nothing", "no such file in the image", "is the command right"}},
		{"missing init in PATH", "/container", start("nothing"), 400, 0, []string{"init nothing", "/usr/sbin", "absolute path"}},
		{"init that is not executable", "/container", start("/etc/passwd"), 400, 0, []string{"/etc/passwd", "not executable", "0644", "chmod +x"}},
		{"directory as init", "/container", start("/bin"), 400, 0, []string{"/bin", "a directory", "name a program"}},
		{"relative init", "/container", start("../../bin/true"), 400, 0, []string{"relative path", "give an absolute one"}},
		{"quote that is not closed", "/container", start("/bin/sh -c 'true"), 400, 0, []string{"command", "quote", "not closed"}},
		{"no words", "/container", start("  "), 400, 0, []string{"command is empty", "/sbin/init"}},
		{"unknown user", "/container", start("/bin/true", `"user":"nobody2"`), 400, 0, []string{"nobody2", "/etc/passwd", "give a number"}},
		{"no such working directory", "/container", start("/bin/true", `"working_dir":"/none"`), 400, 0, []string{"working_dir", "/none", "make it"}},
		{"bind of nothing", "/container", start("/bin/true", `"binds":[{"source":"/nonesuch","target":"/mnt"}]`), 400, 0, []string{"binds", "/nonesuch"}},
		{"bind on a relative place", "/container", start("/bin/true", `"binds":[{"source":"/etc","target":"mnt"}]`), 400, 0, []string{"binds", `"mnt"`, "begin with /"}},
		{"too little memory", "/container", start("/bin/true", `"limits":{"memory":1}`), 422, 609, []string{"limits.memory", "1048576"}},
		{"root that is a file", "/container", strings.Replace(start("/bin/true"), root, bind("/etc/passwd"), 1), 400, 0, []string{"not a directory"}},
	})
}

// What was made without being started can turn out wrong later. It is kept, with the reason, until it is deleted.
func TestLaterStartThatFails(t *testing.T) {
	n, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(smallroot.Image(t))), "/sbin/nothing", `"name":"later"`), &c)
	status, e := daemon.Refused(t, d, http.MethodPatch, "/container?name=later&state=running", nil)
	if status != http.StatusInternalServerError {
		t.Errorf("%d, want 500", status)
	}
	says(t, *e.Message, "/sbin/nothing", "no such file in the image")
	var list []*models.Container
	d.Want(http.StatusOK, http.MethodGet, "/container?name=later", nil, &list)
	if list[0].State != models.ContainerStateDead {
		t.Errorf("state %q, want dead", list[0].State)
	}
	says(t, list[0].Error, "/sbin/nothing", "no such file in the image")
	gone(t, d, c.ID)
	daemon.Untouched(t, n, d)
}

func TestNameThatIsTaken(t *testing.T) {
	n, d := daemon.Start(t)
	spec := container(overlay(squashfs(smallroot.Image(t))), smallroot.Waits, running, `"name":"twin"`)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", spec, &c)
	before := n.Left()
	status, e := daemon.Refused(t, d, http.MethodPost, "/container", spec)
	if status != http.StatusConflict {
		t.Errorf("%d, want 409", status)
	}
	says(t, *e.Message, `"twin"`, fmt.Sprintf("container %d", c.ID), "delete it first")
	if after := n.Left(); len(after) != len(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
	gone(t, d, c.ID)
}

func TestWhatIsInUse(t *testing.T) {
	_, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(smallroot.Image(t))), smallroot.Waits, running), &c)
	var mounts []*models.Mount
	d.Want(http.StatusOK, http.MethodGet, "/mount?kind=overlay", nil, &mounts)
	top := mounts[0].ID
	for _, m := range []struct {
		path   string
		status int
		says   []string
	}{
		{fmt.Sprintf("/container?id=%d", c.ID), 409, []string{fmt.Sprintf("container %d is running", c.ID), "stop it first"}},
		{fmt.Sprintf("/mount?id=%d", top), 409, []string{fmt.Sprintf("mount %d is held by container:%d", top, c.ID), "delete its holders first"}},
		{fmt.Sprintf("/mount?id=%d", c.ID), 404, []string{fmt.Sprintf("no mount has id %d", c.ID), fmt.Sprintf("container %d has that id", c.ID)}},
	} {
		status, e := daemon.Refused(t, d, http.MethodDelete, m.path, nil)
		if status != m.status {
			t.Errorf("DELETE %s: %d %q, want %d", m.path, status, *e.Message, m.status)
		}
		says(t, *e.Message, m.says...)
	}
	gone(t, d, c.ID)
}

// The container has its root in a mount namespace of its own, so the kernel lets the node's go. The container does not notice, and what
// lies below goes with it.
func TestForceBelowARunningContainer(t *testing.T) {
	n, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(smallroot.Image(t))), smallroot.Waits, running), &c)
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/mount?id=%d&force=true", c.Mount.ID), nil, nil)
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), `{"command":["/bin/cat","/etc/passwd"]}`, &out)
	says(t, out.Stdout, "root:x:0:0")
	gone(t, d, c.ID)
	daemon.Untouched(t, n, d)
}

func TestCommandThatExitsAtOnce(t *testing.T) {
	n, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container",
		container(overlay(squashfs(smallroot.Image(t))), `/bin/sh -c 'echo no licence; exit 3'`, running, `"name":"short"`), &c)
	ended := daemon.Wait(d, c.ID, "ended")
	if ended.State != models.ContainerStateExited || ended.ExitCode == nil || *ended.ExitCode != 3 {
		t.Errorf("state %q, exit code %v; want exited, 3", ended.State, ended.ExitCode)
	}
	text, err := d.Text(t.Context(), fmt.Sprintf("/container/%d/log", c.ID))
	if err != nil || strings.TrimSpace(text) != "no licence" {
		t.Errorf("log %q %v", text, err)
	}
	status, e := daemon.Refused(t, d, http.MethodGet, fmt.Sprintf("/container/%d/wait?condition=ready&timeout=5", c.ID), nil)
	if status != http.StatusConflict {
		t.Errorf("waiting until it is ready: %d, want 409", status)
	}
	says(t, *e.Message, "has ended before it was ready", "exit code 3")
	status, e = daemon.Refused(t, d, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), `{"command":["/bin/true"]}`)
	if status != http.StatusConflict {
		t.Errorf("exec in it: %d, want 409", status)
	}
	says(t, *e.Message, "is exited", "start it first")
	gone(t, d, c.ID)
	daemon.Untouched(t, n, d)
}

func TestExecMistakes(t *testing.T) {
	_, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", container(overlay(squashfs(smallroot.Image(t))), smallroot.Waits, running), &c)
	for _, m := range []mistake{
		{"no such program", "", `{"command":["/bin/nonesuch"]}`, 400, 0, []string{"there is no /bin/nonesuch in the container"}},
		{"not executable", "", `{"command":["/etc/passwd"]}`, 400, 0, []string{"/etc/passwd", "execut"}},
		{"no command", "", `{"command":[]}`, 422, 612, []string{"command", "at least 1"}},
		{"null in the command", "", `{"command":[null]}`, 422, 601, []string{"command.0", "not null"}},
		{"string for the command", "", `{"command":"/bin/true"}`, 422, 601, []string{"command", "an array"}},
		{"unknown user", "", `{"command":["/bin/true"],"user":"nobody2"}`, 400, 0, []string{"nobody2", "/etc/passwd"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			status, e := daemon.Refused(t, d, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), m.body)
			if status != m.status || m.code != 0 && int(e.Code) != m.code {
				t.Errorf("%d, code %d, %q; want %d, code %d", status, e.Code, *e.Message, m.status, m.code)
			}
			says(t, *e.Message, m.says...)
		})
	}
	gone(t, d, c.ID)
}
