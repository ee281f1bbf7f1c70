package uri_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/uri"
)

// childVar makes the test binary a process that mounts: the URI, the target directory and its scratch, with blanks between.
const childVar = "WINDLASS_URITEST_CHILD"

func TestMain(m *testing.M) {
	var u string
	var tg mount.Target
	if _, err := fmt.Sscan(os.Getenv(childVar), &u, &tg.Dir, &tg.Scratch); err != nil {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	if os.Getenv("HURRY") != "" {
		ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	}
	defer cancel()
	if _, err := uri.New(uri.Config{Instance: instance}).Mount(ctx, 6, spec(u), nil, tg); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

// child mounts u at tg in a process of its own and gives what it said last.
func child(t *testing.T, u string, tg mount.Target, killWhen <-chan struct{}, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childVar+"="+strings.Join([]string{u, tg.Dir, tg.Scratch}, " ")), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if killWhen != nil {
		<-killWhen
		_ = cmd.Process.Kill()
	}
	last := ""
	for s := bufio.NewScanner(out); s.Scan(); {
		last = s.Text()
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return last
}

// TestKilledInTheMiddle: a daemon that is killed while it downloads leaves nothing.
func TestKilledInTheMiddle(t *testing.T) {
	im := images(t, tree(t))
	for _, name := range []string{"squashfs", "tar.zst"} {
		tg := target(t)
		u, begun := drip(t, must(t, im[name]))
		child(t, u, tg, begun)
		if _, st, err := driver().Probe(t.Context(), 6, spec(u), tg); st != mount.Gone || err != nil {
			t.Errorf("%s: probe says %v, %v", name, st, err)
		}
	}
}

// TestEveryStep kills, fails and hangs the driver before and after every step. Only a build with failpoints can.
func TestEveryStep(t *testing.T) {
	if !failpoint.Enabled {
		return
	}
	dir := tree(t)
	want, im := describe(t, dir), images(t, dir)
	for _, name := range []string{"squashfs", "tar.gz"} {
		tg, u := target(t), "file://"+im[name]
		for _, point := range points(t, u, tg) {
			for _, action := range []string{"kill", "error", "hang"} {
				last := child(t, u, tg, nil, "WINDLASS_FAILPOINT="+point+"="+action, map[string]string{"hang": "HURRY=1"}[action])
				a, st, err := driver().Probe(t.Context(), 6, spec(u), tg)
				switch {
				case err != nil:
					t.Errorf("%s %s: %v", point, action, err)
				case action != "kill" && (st != mount.Gone || !strings.Contains(last, "failpoint")):
					t.Errorf("%s %s: state %v, the child said %q", point, action, st, last)
				case st == mount.Ready && describe(t, tg.Dir) != want:
					t.Errorf("%s %s: what is mounted is not the image", point, action)
				case (st == mount.Ready) != (point == "mount.move:after" && action == "kill"):
					t.Errorf("%s %s: state %v", point, action, st)
				}
				if err := driver().Unmount(t.Context(), a, false); err != nil {
					t.Fatal(err)
				}
				noLoops(t)
			}
		}
	}
}

// points lists the failpoints of a mount.
func points(t *testing.T, u string, tg mount.Target) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	if last := child(t, u, tg, nil, "WINDLASS_FAILPOINT_TRACE="+trace); last != "done" {
		t.Fatal(last)
	}
	if err := driver().Unmount(t.Context(), mount.Active{Target: tg}, false); err != nil {
		t.Fatal(err)
	}
	all := strings.Fields(string(must(t, trace)))
	if len(all) < 8 {
		t.Fatalf("only the points %v were passed", all)
	}
	return all
}
