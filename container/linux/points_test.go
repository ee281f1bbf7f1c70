//go:build failpoint

package linux_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
)

// A daemon killed at every failpoint of starting two containers and removing one leaves nothing that a new one cannot remove.
func TestKilledAtEveryPoint(t *testing.T) {
	root := containertest.BusyboxRoot(t)
	points := tracePoints(t, root)
	if len(points) < 12 {
		t.Fatalf("only %d points were reached: %v", len(points), points)
	}
	seen := map[string]int{}
	for _, p := range points {
		seen[p]++
		point := fmt.Sprintf("%s#%d", p, seen[p])
		t.Run(point, func(t *testing.T) {
			_, dir := newRuntime(t)
			runDaemon(t, string(dir), root, "WINDLASS_FAILPOINT="+point+"=kill")
			ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
			defer cancel()
			r, err := linux.New(config(dir))
			if err != nil {
				t.Fatal(err)
			}
			ids, err := r.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range append(ids, 1, 2) {
				if st, err := r.Status(ctx, id); err != nil {
					t.Errorf("status of %d: %+v %v", id, st, err)
				}
				if err := r.Remove(ctx, id); err != nil {
					t.Errorf("remove %d: %v", id, err)
				}
				if st, err := r.Status(ctx, id); err != nil || st.State != container.Absent {
					t.Errorf("removed %d: %+v %v", id, st, err)
				}
			}
		})
	}
	t.Logf("%d kills", len(points))
}

// tracePoints lists what one start, another and the removal of that reach.
func tracePoints(t *testing.T, root string) []string {
	t.Helper()
	_, dir := newRuntime(t)
	trace := filepath.Join(t.TempDir(), "trace")
	runDaemon(t, string(dir), root, "WINDLASS_FAILPOINT_TRACE="+trace, "WINDLASS_FAILPOINT=container.directory:before#3=kill")
	r, err := linux.New(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []container.ID{1, 2, 3} {
		if err := r.Remove(context.Background(), id); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

func runDaemon(t *testing.T, dir, root string, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), daemonEnv+"="+dir, rootEnv+"="+root, shimEnv+"="+shim), env...)
	if out, err := cmd.Output(); err == nil || strings.Contains(string(out), "error") {
		t.Errorf("the daemon was not killed: %v\n%s", err, out)
	}
}
