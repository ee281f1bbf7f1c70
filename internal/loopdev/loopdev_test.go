package loopdev_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
)

// image makes a file of 1 MiB with known bytes, open for reading and writing.
func image(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(bytes.Repeat([]byte("windlass"), 1<<17)); err != nil {
		t.Fatal(err)
	}
	return f
}

// name gives a name that no other test run uses.
func name(t testing.TB, n int) string { return fmt.Sprintf("t%d-%s/%d", os.Getpid(), t.Name()[4:8], n) }

func attach(t testing.TB, o loopdev.Options) (loopdev.Device, *os.File) {
	t.Helper()
	dev, f, err := loopdev.Attach(t.Context(), o)
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := loopdev.Clear(context.Background(), dev.Path, loopdev.DetachOptions{Name: o.Name, Wait: 5 * time.Second}); err != nil {
			t.Errorf("leaked: %v", err)
		}
	})
	return dev, f
}

func found(t testing.TB, name string) []loopdev.Device {
	t.Helper()
	all, err := loopdev.FindByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDeviceHasTheBytesOfTheFile(t *testing.T) {
	f := image(t)
	dev, _ := attach(t, loopdev.Options{File: f, Name: name(t, 1), Offset: 4096 + 512, SizeLimit: 8192, ReadOnly: true})
	got, err := os.ReadFile(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat([]byte("windlass"), 1024); !bytes.Equal(got, want) {
		t.Errorf("the device has %d bytes that differ from the file's", len(got))
	}
	all := found(t, dev.Name)
	if len(all) != 1 || all[0] != dev {
		t.Errorf("found by name: %+v, want only %+v", all, dev)
	}
	if !dev.ReadOnly || dev.BackingFile != f.Name() || dev.Offset != 4608 || dev.SizeLimit != 8192 {
		t.Errorf("described as %+v", dev)
	}
}

func TestDetachTwice(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
	f.Close()
	for range 2 {
		if err := loopdev.Detach(t.Context(), dev.Path); err != nil {
			t.Fatal(err)
		}
	}
	if all := found(t, dev.Name); len(all) != 0 {
		t.Errorf("still there: %+v", all)
	}
}

func TestDetachLeavesADeviceOfAnotherName(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
	f.Close()
	if err := loopdev.Clear(t.Context(), dev.Path, loopdev.DetachOptions{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	if all := found(t, dev.Name); len(all) != 1 {
		t.Errorf("the device of another name was cleared")
	}
}

func TestDetachInUseIsBusyAndChangesNothing(t *testing.T) {
	tests := map[string]func(t *testing.T, dev loopdev.Device) (want string){
		"open without a claim": func(t *testing.T, dev loopdev.Device) string {
			cmd := exec.Command("sleep", "60")
			f, err := os.Open(dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = f
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			f.Close()
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			return fmt.Sprintf("pid %d (", cmd.Process.Pid)
		},
		"mounted": func(t *testing.T, dev loopdev.Device) string {
			if out, err := exec.Command("mkfs.ext4", "-q", dev.Path).CombinedOutput(); err != nil {
				t.Fatalf("mkfs: %v: %s", err, out)
			}
			dir := t.TempDir()
			if err := unix.Mount(dev.Path, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			})
			return " at " + dir + " in the mount namespace of pid "
		},
		"under another loop device": func(t *testing.T, dev loopdev.Device) string {
			f, err := os.Open(dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			above, _ := attach(t, loopdev.Options{File: f, Name: name(t, 2), ReadOnly: true})
			return "loop device " + above.Path + " on " + dev.Path
		},
	}
	for what, use := range tests {
		t.Run(what, func(t *testing.T) {
			dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
			f.Close()
			want := use(t, dev)
			err := loopdev.Clear(t.Context(), dev.Path, loopdev.DetachOptions{Name: dev.Name, Wait: 30 * time.Millisecond})
			if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), want) {
				t.Errorf("detach: %v, want busy naming %q", err, want)
			}
			if all := found(t, dev.Name); len(all) != 1 || all[0] != dev {
				t.Errorf("the device is now %+v, was %+v", all, dev)
			}
		})
	}
}

func TestDetachWaitsForAUserThatGoes(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
	done := make(chan error, 1)
	go func() {
		done <- loopdev.Clear(context.Background(), dev.Path, loopdev.DetachOptions{Wait: 10 * time.Second})
	}()
	for len(found(t, dev.Name)) == 1 && !found(t, dev.Name)[0].Autoclear {
	} // it is marked to go: Clear has met the user
	f.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if all := found(t, dev.Name); len(all) != 0 {
		t.Errorf("still there: %+v", all)
	}
}

// TestDetachAfterTheLastMountNamespaceDied does not wait for the kernel, which takes mounts down some time after the last process.
func TestDetachAfterTheLastMountNamespaceDied(t *testing.T) {
	for n := range 20 {
		dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, n)})
		f.Close()
		if out, err := exec.Command("mkfs.ext4", "-q", dev.Path).CombinedOutput(); err != nil {
			t.Fatalf("mkfs: %v: %s", err, out)
		}
		cmd := exec.Command("sh", "-c", `mount -o ro "$0" /mnt && echo mounted && exec sleep 60`, dev.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fscanln(out, new(string))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			t.Fatalf("it was not mounted: %v", err)
		}
		if err := loopdev.Detach(t.Context(), dev.Path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAutoclearGoesWithItsLastUser(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1), Autoclear: true})
	if len(found(t, dev.Name)) != 1 {
		t.Fatal("the descriptor does not keep it alive")
	}
	f.Close()
	if len(found(t, dev.Name)) != 0 {
		t.Error("it outlives its last user")
	}
}

func TestDirectIO(t *testing.T) {
	dev, _ := attach(t, loopdev.Options{File: image(t), Name: name(t, 1), DirectIO: true})
	if !dev.DirectIO {
		t.Error("direct I/O is off")
	}
	_, _, err := loopdev.Attach(t.Context(), loopdev.Options{File: image(t), Name: name(t, 2), DirectIO: true, Offset: 100})
	if !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
		t.Errorf("direct I/O at an odd offset: %v", err)
	}
	if all := found(t, name(t, 2)); len(all) != 0 {
		t.Errorf("left behind: %+v", all)
	}
}

func TestAttachErrorsLeaveNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	tests := map[string]struct {
		ctx context.Context
		o   loopdev.Options
	}{
		"context has ended": {cancelled, loopdev.Options{File: image(t), Name: name(t, 1)}},
		"directory":         {t.Context(), loopdev.Options{File: dir, Name: name(t, 1)}},
		"name too long":     {t.Context(), loopdev.Options{File: image(t), Name: strings.Repeat("n", 64)}},
		"odd block size":    {t.Context(), loopdev.Options{File: image(t), Name: name(t, 1), BlockSize: 777}},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			if _, f, err := loopdev.Attach(tt.ctx, tt.o); err == nil || f != nil {
				t.Errorf("attached: %v", err)
			}
			if all := found(t, tt.o.Name); len(all) != 0 {
				t.Errorf("left behind: %+v", all)
			}
		})
	}
}

func TestAReadOnlyMarkOfAFormerUserIsTakenOff(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
	if out, err := exec.Command("blockdev", "--setro", dev.Path).CombinedOutput(); err != nil {
		t.Fatalf("blockdev: %v: %s", err, out)
	}
	f.Close()
	if err := loopdev.Clear(t.Context(), dev.Path, loopdev.DetachOptions{Name: dev.Name}); err != nil {
		t.Fatal(err)
	}
	// Others take numbers too: go on until the number comes up again.
	for n := 2; ; n++ {
		again, _ := attach(t, loopdev.Options{File: image(t), Name: name(t, n)})
		f, err := os.OpenFile(again.Path, os.O_RDWR, 0)
		if err == nil {
			_, err = f.Write(make([]byte, 512))
			f.Close()
		}
		if err != nil {
			t.Errorf("write to %s: %v", again.Path, err)
		}
		if again.Number == dev.Number {
			return
		}
	}
}

// TestMissingNode runs without the node of the device: a /dev that is not devtmpfs has none.
func TestMissingNode(t *testing.T) {
	dev, f := attach(t, loopdev.Options{File: image(t), Name: name(t, 1)})
	f.Close()
	if err := os.Remove(dev.Path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(dev.Path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))); err != nil { // of a former owner
		t.Fatal(err)
	}
	if all := found(t, dev.Name); len(all) != 1 || all[0] != dev {
		t.Fatalf("found %+v, want %+v", all, dev)
	}
	if err := os.Remove(dev.Path); err != nil {
		t.Fatal(err)
	}
	if err := loopdev.Detach(t.Context(), dev.Path); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dev.Path, &st); err != nil || uint64(st.Rdev) != dev.DevNum {
		t.Errorf("the node was not made again: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	f := image(t)
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			dev, keep, err := loopdev.Attach(t.Context(), loopdev.Options{File: f, Name: name(t, n), ReadOnly: true})
			if err != nil {
				t.Error(err)
				return
			}
			keep.Close()
			if all, err := loopdev.FindByName(t.Context(), dev.Name); err != nil || len(all) != 1 || all[0].Path != dev.Path {
				t.Errorf("found %+v, %v", all, err)
			}
			if err := loopdev.Clear(t.Context(), dev.Path, loopdev.DetachOptions{Name: dev.Name, Wait: 10 * time.Second}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := loopdev.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if strings.HasPrefix(d.Name, strings.TrimSuffix(name(t, 0), "0")) {
			t.Errorf("left behind: %+v", d)
		}
	}
}
