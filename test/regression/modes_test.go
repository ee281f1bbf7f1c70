package regression

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

// The daemon's umask lets only root in. What it makes for a container is looked at by others too.
func TestOrdinaryUsersInAContainerCanLookAround(t *testing.T) {
	_, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", running("users", smallroot.Image(t), smallroot.Waits), &c)
	look := &models.ExecSpec{User: "user", Command: []string{"/bin/sh", "-ec",
		"cd /; ls / /dev /run /run/host /sys/fs/cgroup >/dev/null; cat /run/host/container-manager /sys/fs/cgroup/cgroup.procs >/dev/null; touch /tmp/x /dev/shm/x"}}
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), look, &out)
	if out.ExitCode != 0 {
		t.Errorf("%d: %s", out.ExitCode, out.Stderr)
	}
	daemon.Gone(t, d, "name=users")
}
