package uri_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/mount/uri"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// childVar makes the test binary a process that mounts: the URI, the target directory and its scratch, with blanks between.
const childVar = "WINDLASS_URITEST_CHILD"

func TestMain(m *testing.M) {
	var u string
	var tg mount.Target
	if _, err := fmt.Sscan(os.Getenv(childVar), &u, &tg.Dir, &tg.Scratch); err != nil {
		mounttest.Main(m, func() mount.Driver { return driver() })
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := uri.New(uri.Config{Instance: instance}).Mount(ctx, 6, spec(u), nil, tg); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	os.Exit(0)
}

// killedChild mounts u at tg in a process of its own and kills it.
func killedChild(t *testing.T, u string, tg mount.Target, killWhen <-chan struct{}) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVar+"="+strings.Join([]string{u, tg.Dir, tg.Scratch}, " "))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-killWhen
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended well before it was killed")
	}
}

// TestKilledInTheMiddle: a daemon that is killed while it downloads leaves nothing.
func TestKilledInTheMiddle(t *testing.T) {
	im := images(t, tree(t))
	for _, name := range []string{"squashfs", "tar.zst"} {
		tg := target(t)
		u, begun := drip(t, must(t, im[name]))
		killedChild(t, u, tg, begun)
		if _, st, err := driver().Probe(t.Context(), 6, spec(u), tg); st != mount.Gone || err != nil {
			t.Errorf("%s: probe says %v, %v", name, st, err)
		}
	}
}

// TestConformance holds the driver to the contract, with every sort of thing that it mounts.
func TestConformance(t *testing.T) {
	for _, format := range []string{"squashfs", "erofs", "tar.gz"} {
		t.Run(format, func(t *testing.T) {
			mounttest.Run(t, mounttest.Suite{
				New: func() mount.Driver { return driver() },
				Make: func(t testing.TB) mounttest.Case {
					t.Cleanup(func() { noLoops(t) })
					return mounttest.Case{Spec: spec("file://" + image(t, format)), Files: mounttest.Files(), Writable: format == "tar.gz"}
				},
				Hostile: func(testing.TB) []mounttest.Hostile {
					return []mounttest.Hostile{
						{What: "nothing", Spec: &models.Mount{}, Kind: fault.Invalid, Says: "uri"},
						{What: "a fifo's kin", Spec: spec("file:///dev/zero"), Kind: fault.Invalid, Says: "a device"},
						{What: "a directory", Spec: spec("file:///etc"), Kind: fault.Invalid, Says: "a directory"},
						{What: "no image", Spec: spec("file:///etc/passwd"), Kind: fault.Corrupt, Says: "begins with"},
						{What: "no file", Spec: spec("file:///nowhere"), Kind: fault.NotFound, Says: "/nowhere"},
						{What: "no server", Spec: spec("http://127.0.0.1:1/x"), Kind: fault.Backend, Says: "connection refused"},
					}
				},
			})
		})
	}
}

func image(t testing.TB, format string) string {
	t.Helper()
	if format != "tar.gz" {
		return mounttest.Image(t, format)
	}
	path := filepath.Join(t.TempDir(), "image.tar.gz")
	mounttest.Command(t, "tar", "-C", mounttest.Tree(t), "-czf", path, ".")
	return path
}
