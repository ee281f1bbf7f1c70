//go:build failpoint

package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/crashtest"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// recovery is how long a daemon may take from its start after a crash until it is ready.
const recovery = 2 * time.Second

// TestKillAtEveryPoint kills the daemon with SIGKILL before and after every side effect and fsync in the life of a container of five
// links, starts it again, and compares what it says with what the node has. WINDLASS_CRASH_ROUNDS says how often each point is tried.
func TestKillAtEveryPoint(t *testing.T) {
	t.Parallel() // both wait most of the time
	bin := daemon.Build(t, "-tags=failpoint")
	dir, name := image(t)
	all := tracedPoints(t, bin, dir, name)
	rounds := 1
	if s := os.Getenv("WINDLASS_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("WINDLASS_CRASH_ROUNDS=%q is no number of rounds", s)
		}
		rounds = n
	}
	kills, failures, unreached, slowest := 0, 0, 0, time.Duration(0)
	for round := range rounds {
		for _, point := range all {
			ok := t.Run(fmt.Sprintf("%s/%d", point, round+1), func(t *testing.T) {
				killed, took := killAt(t, bin, point, dir, name)
				if killed {
					kills++
				} else {
					unreached++
				}
				slowest = max(slowest, took)
			})
			if !ok {
				failures++
			}
		}
	}
	t.Logf("figure: points %d, kills %d, failures %d, not reached this time %d, slowest recovery %s", len(all), kills, failures, unreached, slowest)
	if unreached*10 > len(all)*rounds {
		t.Errorf("%d of %d points were not reached: the test kills too little", unreached, len(all)*rounds)
	}
}

// tracedPoints lives a life without a crash and gives every point that it passed.
func tracedPoints(t *testing.T, bin daemon.Binaries, dir, name string) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	n := daemon.NewNode(t)
	d := n.Start(daemon.Options{Binaries: bin, Env: []string{"WINDLASS_FAILPOINT_TRACE=" + trace}})
	if _, err := life(t.Context(), d, deep(dir, name)); err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
	if err := d.WaitEmpty(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := crashtest.Traced(t, trace)
	d.Stop()
	if len(all) < 40 {
		t.Fatalf("only %d points: %v", len(all), all)
	}
	return all
}

// killAt lives a life on a daemon that dies at the point, and then looks at what the next one makes of it.
func killAt(t *testing.T, bin daemon.Binaries, point, dir, name string) (killed bool, took time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := daemon.NewNode(t)
	first, err := n.TryStart(daemon.Options{Binaries: bin, Env: []string{"WINDLASS_FAILPOINT=" + point + "=kill"}})
	var known answered
	if err == nil {
		known, err = life(ctx, first, deep(dir, name))
		if err == nil { // what goes on in the background may still reach it
			err = first.WaitEmpty(ctx)
		}
		killed = err != nil
		if killed {
			<-first.Done()
		} else {
			first.Kill() // it may also reach the point while it ends
		}
	} else {
		killed = true
	}
	if killed && first != nil && !strings.Contains(fmt.Sprint(err), "EOF") && !isTransport(err) {
		t.Errorf("it did not die at %s but answered: %v\n%s", point, err, first.Log())
	}
	second := n.Start(daemon.Options{Binaries: bin})
	if second.Took > recovery {
		t.Errorf("ready after %s, want at most %s", second.Took, recovery)
	}
	agree(ctx, t, n, second, known)
	if err := remove(ctx, second); err != nil {
		t.Errorf("%v\n%s", err, second.Log())
	}
	second.Stop()
	return killed, second.Took
}

// isTransport says whether an error is of a connection that broke, not of an answer.
func isTransport(err error) bool {
	s := fmt.Sprint(err)
	return strings.Contains(s, "connection re") || strings.Contains(s, "broken pipe") || strings.Contains(s, "no such file")
}

// agree holds that what the daemon lists is what the node has and what the client was told.
func agree(ctx context.Context, t *testing.T, n *daemon.Node, d *daemon.Daemon, known answered) {
	t.Helper()
	o, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case known.deleted && !o.Empty():
		if err := d.WaitEmpty(ctx); err != nil {
			t.Errorf("deleted, but: %v", err)
		}
		return
	case known.created && !known.stopped && len(o.Containers) == 0 && !o.Empty():
		t.Errorf("a container that was created is lost; there is %s", o)
	case known.created && !known.stopped && len(o.Containers) == 1 && o.Containers[0].State == models.ContainerStateDead:
		t.Errorf("a container that ran is dead: %s", o)
	}
	for _, m := range o.Mounts {
		if mounted, err := mountinfo.IsMountpoint(m.Mountpoint); m.State == "ready" && (err != nil || !mounted) {
			t.Errorf("mount %d is ready but not mounted: %v", m.ID, err)
		}
	}
	for _, a := range o.Attachments {
		if _, err := os.Stat(a.DeviceFile); a.State == "ready" && err != nil {
			t.Errorf("attachment %d is ready but has no device: %v", a.ID, err)
		}
	}
	if o.Empty() {
		if left := n.Left(); len(left) > 0 {
			t.Errorf("nothing is listed, but there is:\n  %s\n%s", strings.Join(left, "\n  "), d.Log())
		}
	}
}
