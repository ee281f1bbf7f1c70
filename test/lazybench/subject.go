package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// subject is one way to have the tree at a mountpoint.
type subject interface {
	name() string
	// prepare publishes the image; it is not measured, except by build.
	prepare(ctx context.Context) error
	// cold empties the subject's own cache and starts what has to run before anything can be mounted. It is not measured.
	cold(ctx context.Context, w workload) error
	// mount gives the mountpoint. It returns when the tree can be read.
	mount(ctx context.Context, w workload) (dir string, err error)
	unmount() error
	// lazy says that the image comes from the web server while it is used; else it is wholly here.
	lazy() bool
}

func subjects(s setting, w *web) []subject {
	erofs := filepath.Join(s.work, "plain.erofs")
	return []subject{
		&directory{s: s},
		&imageFile{s: s, label: "squashfs", file: filepath.Join(s.work, "zstd.squashfs"), fs: "squashfs",
			make: []string{"mksquashfs", s.tree, filepath.Join(s.work, "zstd.squashfs"), "-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-no-progress", "-quiet"}},
		&imageFile{s: s, label: "erofs", file: erofs, fs: "erofs", make: []string{"mkfs.erofs", "--quiet", erofs, s.tree}},
		&squashfuse{imageFile{s: s, label: "squashfuse", file: filepath.Join(s.work, "zstd.squashfs"), fs: "squashfs"}},
		&chunkfs{s: s, web: w, label: "windlass", mode: "auto"},
		&chunkfs{s: s, web: w, label: "windlass complete", mode: "direct"},
		&chunkfs{s: s, web: w, label: "windlass fuse", mode: "fuse"},
		&chunkfs{s: s, web: w, label: "windlass traced", mode: "auto", traced: true},
		&desync{s: s, web: w},
		&nydus{s: s, web: w},
		&stargz{s: s, web: w},
	}
}

// output runs a command to its end; what it said is in the error.
func output(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// start runs a command beside us; what it says goes to a file.
func start(cmd *exec.Cmd, log string) error {
	f, err := os.Create(log)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd.Start()
}

// mounted waits until something is mounted at dir, for as long as the program that mounts it lives.
func mounted(ctx context.Context, cmd *exec.Cmd, dir string) error {
	var parent, st unix.Stat_t
	if err := unix.Stat(filepath.Dir(dir), &parent); err != nil {
		return err
	}
	for {
		if err := unix.Stat(dir, &st); err == nil && st.Dev != parent.Dev {
			return nil
		}
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo != 0 {
			return fmt.Errorf("%s ended before it had mounted: %v", cmd.Args[0], err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Microsecond): // nobody tells of mounts in another process, and mountinfo costs more
		}
	}
}

// ended asks a program to end and waits for it.
func ended(cmd *exec.Cmd) error {
	if cmd == nil || cmd.Process == nil {
		return nil
	}
	_ = cmd.Process.Signal(unix.SIGTERM)
	stop := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	_ = cmd.Wait() // it was told to end
	return nil
}

// unmounted takes dir down, also when the page cache is still being let go.
func unmounted(dir string) error {
	err := unix.Unmount(dir, 0)
	for end := time.Now().Add(5 * time.Second); err == unix.EBUSY && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		err = unix.Unmount(dir, 0)
	}
	return err
}

// dropCaches empties page, inode and directory caches.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
