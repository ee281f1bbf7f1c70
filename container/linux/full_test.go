package linux_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/rundir"
)

// On a full run directory the shim cannot write its last words. How the container ended must not be lost when it is started again then,
// and it must be possible to remove it.
func TestFullRunDirectoryKeepsHowItEnded(t *testing.T) {
	top := t.TempDir()
	if err := unix.Mount("tmpfs", top, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(top, 0); err != nil {
			t.Error(err)
		}
	})
	dir := rundir.Dir(filepath.Join(top, "w"))
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	r, err := linux.New(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nothingLeft(t, dir) })
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	defer cancel()
	root := containertest.BusyboxRoot(t)
	spec := containertest.Shell(`trap "exit 7" TERM; echo started; while :; do sleep 1000 & wait $!; done`)
	if _, err := r.Start(ctx, 1, spec, root); err != nil {
		t.Fatal(err)
	}
	waitLog(ctx, t, r, "started")
	full := fill(t, top)
	if err := r.Signal(ctx, 1, int(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	endedWith7(ctx, t, r)
	if _, err := r.Start(ctx, 1, spec, root); err == nil {
		t.Error("started on a full disk")
	}
	endedWith7(ctx, t, r)
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if st, err := r.Start(ctx, 1, spec, root); err != nil || st.State != container.Running {
		t.Errorf("with room again: %+v %v", st, err)
	}
	if err := r.Remove(ctx, 1); err != nil {
		t.Fatal(err)
	}
}

// fill leaves no room in the file system of dir.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "full")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 2<<20), 0o600); err == nil {
		t.Fatal("it does not get full")
	}
	return path
}

// waitLog waits until the log holds a text.
func waitLog(ctx context.Context, t *testing.T, r *linux.Runtime, text string) {
	t.Helper()
	log, err := r.OpenLog(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var got []byte
	for !bytes.Contains(got, []byte(text)) {
		if err := log.WaitMore(ctx, int64(len(got))); err != nil {
			t.Fatalf("%q, then %v", got, err)
		}
		buf := make([]byte, 4096)
		n, _ := log.Read(buf)
		got = append(got, buf[:n]...)
	}
}

func endedWith7(ctx context.Context, t *testing.T, r *linux.Runtime) {
	t.Helper()
	changes, err := r.Watch(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	for st := range changes {
		if st.State == container.Exited && st.ExitCode == 7 {
			return
		}
	}
	t.Fatal("how it ended is not known")
}
