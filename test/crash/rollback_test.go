//go:build failpoint

package crash

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/crashtest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// TestRollbackAtEveryStep fails, and hangs, every step that raises a container of five links. Each time the request must fail and say
// where, and the node must be as before, with no restart.
func TestRollbackAtEveryStep(t *testing.T) {
	t.Parallel()
	bin := daemon.Build(t, "-tags=failpoint")
	dir, name := image(t)
	steps := raisingSteps(t, bin, dir, name)
	for _, action := range []string{"error", "hang"} {
		for _, point := range steps {
			t.Run(action+"/"+point, func(t *testing.T) { rollBack(t, bin, point, action, dir, name) })
		}
	}
	t.Logf("figure: %d steps, each failed and hung", len(steps))
}

// raisingSteps gives the steps of raising: those that a daemon passes between being ready and answering the POST.
func raisingSteps(t *testing.T, bin daemon.Binaries, dir, name string) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	n := daemon.NewNode(t)
	d := n.Start(daemon.Options{Binaries: bin, Env: []string{"WINDLASS_FAILPOINT_TRACE=" + trace}})
	idle := len(crashtest.Traced(t, trace))
	d.Want(http.StatusCreated, http.MethodPost, "/container", deep(dir, name), nil)
	all := crashtest.Traced(t, trace)[idle:]
	if err := remove(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	if len(all) < 20 {
		t.Fatalf("only %d steps: %v", len(all), all)
	}
	return all
}

// survive holds that a container whose creation was answered runs, and deletes it.
func survive(ctx context.Context, t *testing.T, d *daemon.Daemon) {
	t.Helper()
	o, err := d.List(ctx)
	if err != nil || len(o.Containers) != 1 || o.Containers[0].State != models.ContainerStateRunning {
		t.Errorf("created, but there is %s %v", o, err)
	}
	if err := remove(ctx, d); err != nil {
		t.Error(err)
	}
}

func rollBack(t *testing.T, bin daemon.Binaries, point, action, dir, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := daemon.NewNode(t)
	d := n.Start(daemon.Options{Binaries: bin, Env: []string{"WINDLASS_FAILPOINT=" + point + "=" + action},
		Args: []string{"--step-timeout", "300ms", "--create-timeout", "900ms", "--log-level", "info"}})
	var refused models.Error
	status, err := d.Call(ctx, http.MethodPost, "/container", deep(dir, name), &refused)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
	if status == http.StatusCreated { // a record of what had happened anyway: its failure is no failure of the request
		survive(ctx, t, d)
	} else if refused.Message == nil || *refused.Message == "" {
		t.Errorf("the answer does not say why: %d %+v", status, refused)
	}
	if err := d.WaitEmpty(ctx); err != nil {
		t.Errorf("%v\n%s", err, d.Log())
	}
	if left := n.Left(); len(left) > 0 {
		t.Errorf("the node is not as before:\n  %s\n%s", strings.Join(left, "\n  "), d.Log())
	}
	again(ctx, t, d, dir, name)
	if err := remove(ctx, d); err != nil {
		t.Error(err)
	}
	d.Stop()
}

// again raises the container: the point is armed once, so now it works. On a busy machine the first request may have run out of its time before
// the point, and this one may do the same.
func again(ctx context.Context, t *testing.T, d *daemon.Daemon, dir, name string) {
	t.Helper()
	for tries := 1; ; tries++ {
		var answer struct{ Message string }
		status, err := d.Call(ctx, http.MethodPost, "/container", deep(dir, name), &answer)
		late := status == http.StatusGatewayTimeout || strings.Contains(answer.Message, "failpoint ")
		switch {
		case err != nil || status != http.StatusCreated && (!late || tries == 5):
			t.Fatalf("raised once more: %d %s %v\n%s", status, answer.Message, err, d.Log())
		case status == http.StatusCreated:
			return
		}
		t.Logf("try %d: %d %s", tries, status, answer.Message)
		if err := d.WaitEmpty(ctx); err != nil {
			t.Fatalf("%v\n%s", err, d.Log())
		}
	}
}
