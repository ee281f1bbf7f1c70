package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// workload is what is done with a mounted tree.
type workload struct {
	name string
	run  func(ctx context.Context, dir string) error
	// local says that it is measured on the loopback only: it reads so much that a slow link measures the link.
	local bool
}

func workloads(tree string) ([]workload, error) {
	names, sizes, err := big(tree)
	if err != nil {
		return nil, err
	}
	return []workload{
		{name: "python start", run: inside("/usr/bin/python3", "-c", "import json, asyncio, http.client, sqlite3, xml.dom.minidom")},
		{name: "compiler start", run: inside("/bin/sh", "-c", `printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void){return 0;}\n' | gcc -x c -fsyntax-only -`)},
		{name: "find", run: outside("find %s -xdev -printf '%%s %%m %%T@\\n'")},
		{name: "random 4K", run: random(1000, names, sizes, readAt), local: true},
		{name: "mmap random", run: random(1000, names, sizes, touch), local: true},
		{name: "sequential", run: sequential(names, sizes), local: true},
		{name: "tar", run: outside("tar -C %s --one-file-system -cf - . | cat"), local: true},
	}, nil
}

// withDevices shows the machine's /dev in the tree: a FUSE file system has none that can be opened.
func withDevices(dir string, fn func() error) error {
	at := filepath.Join(dir, "dev")
	if err := unix.Mount("/dev", at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /dev to %s: %w", at, err)
	}
	err := fn()
	if e := unix.Unmount(at, unix.MNT_DETACH); err == nil {
		err = e
	}
	return err
}

// inside runs a program of the tree in the tree.
func inside(args ...string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		return withDevices(dir, func() error {
			return output(exec.CommandContext(ctx, "chroot", append([]string{dir}, args...)...))
		})
	}
}

func outside(script string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		cmd := exec.CommandContext(ctx, "bash", "-c", "set -eo pipefail; "+fmt.Sprintf(script, dir)+" >/dev/null")
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, said.Bytes())
		}
		return nil
	}
}

// big lists the larger regular files of the tree, relative to it: random reads go to them, the same in every round and of every subject.
func big(tree string) (names []string, sizes []int64, err error) {
	err = filepath.WalkDir(filepath.Join(tree, "usr"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Size() >= 256<<10 {
			names, sizes = append(names, p[len(tree):]), append(sizes, st.Size())
		}
		return err
	})
	return names, sizes, err
}

func random(n int, names []string, sizes []int64, read func(f *os.File, off int64) error) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same every time is what is wanted
		for range n {
			i := r.IntN(len(names))
			f, err := os.Open(dir + names[i])
			if err != nil {
				return err
			}
			err = read(f, r.Int64N(sizes[i]/4096)*4096)
			_ = f.Close()
			if err != nil || ctx.Err() != nil {
				return err
			}
		}
		return nil
	}
}

func readAt(f *os.File, off int64) error {
	var page [4096]byte
	_, err := f.ReadAt(page[:], off)
	return err
}

// touch reads by a page fault.
func touch(f *os.File, off int64) error {
	m, err := unix.Mmap(int(f.Fd()), off, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	_, err = io.Discard.Write(bytes.Clone(m[:1]))
	if e := unix.Munmap(m); err == nil {
		err = e
	}
	return err
}

// sequential reads the biggest file from one end to the other.
func sequential(names []string, sizes []int64) func(context.Context, string) error {
	name := names[slices.Index(sizes, slices.Max(sizes))]
	return func(_ context.Context, dir string) error {
		f, err := os.Open(dir + name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 128<<10))
		return err
	}
}

// timed says how long fn takes.
func timed(fn func() error) (time.Duration, error) {
	begun := time.Now()
	err := fn()
	return time.Since(begun), err
}
