// Package helpertest gives tests a windlass-shim, and a file system whose server does not answer.
package helpertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// ShimVar names a windlass-shim in the environment that was built by who runs the tests where there is no compiler.
const ShimVar = "WINDLASS_TEST_SHIM"

// Build builds windlass-shim in dir, unless the environment names one, and gives its path.
func Build(dir string) (string, error) {
	if shim := os.Getenv(ShimVar); shim != "" {
		return shim, nil
	}
	shim := filepath.Join(dir, "windlass-shim")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", shim, "github.com/windlass-hpc/windlass/cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	return shim, build.Run()
}

// Shim is Build for a single test.
func Shim(t testing.TB) string {
	t.Helper()
	shim, err := Build(t.TempDir())
	if err != nil {
		t.Fatalf("build the shim: %v", err)
	}
	return shim
}

// Hang is a file system whose server takes requests and does not answer them: who asks cannot even be killed.
type Hang struct {
	Dir    string        // its mountpoint: statfs hangs
	Path   string        // below it: any walk to it hangs
	Asked  chan struct{} // gets an element for each request that waits
	answer chan struct{}
	once   sync.Once
}

// NewHang mounts one until the test ends.
func NewHang(t testing.TB) *Hang {
	t.Helper()
	h := &Hang{Dir: t.TempDir(), Asked: make(chan struct{}, 64), answer: make(chan struct{})}
	h.Path = filepath.Join(h.Dir, "hang")
	srv, err := fs.Mount(h.Dir, &node{h: h}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "hang", Name: "hang"}})
	if err != nil {
		t.Fatalf("mount a FUSE file system: %v", err)
	}
	t.Cleanup(func() {
		h.Answer()
		if mounted, err := mountinfo.IsMountpoint(h.Dir); err == nil && !mounted {
			return // the test has seen to that
		}
		if err := srv.Unmount(); err != nil {
			t.Errorf("unmount the FUSE file system: %v", err)
		}
	})
	return h
}

// Answer answers all that waits, and all that comes, with an error.
func (h *Hang) Answer() { h.once.Do(func() { close(h.answer) }) }

func (h *Hang) wait() syscall.Errno {
	h.Asked <- struct{}{}
	<-h.answer
	return syscall.EIO
}

// node is the root.
type node struct {
	fs.Inode
	h *Hang
}

// Lookup hangs.
func (n *node) Lookup(context.Context, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, n.h.wait()
}

// Statfs hangs.
func (n *node) Statfs(context.Context, *fuse.StatfsOut) syscall.Errno { return n.h.wait() }
