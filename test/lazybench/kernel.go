package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// directory is the tree itself: the limit.
type directory struct{ s setting }

func (d *directory) name() string                                    { return "ext4 directory" }
func (d *directory) prepare(context.Context) error                   { return nil }
func (d *directory) cold(context.Context, workload) error            { return nil }
func (d *directory) mount(context.Context, workload) (string, error) { return d.s.tree, nil }
func (d *directory) unmount() error                                  { return nil }
func (d *directory) lazy() bool                                      { return false }

// imageFile is an image that the kernel mounts over a loop device.
type imageFile struct {
	s         setting
	label, fs string
	file      string
	make      []string
}

func (i *imageFile) name() string { return i.label }
func (i *imageFile) lazy() bool   { return false }
func (i *imageFile) dir() string  { return filepath.Join(i.s.work, "mnt-"+i.label) }

func (i *imageFile) prepare(ctx context.Context) error {
	if _, err := os.Stat(i.file); err == nil || len(i.make) == 0 {
		return err
	}
	return output(exec.CommandContext(ctx, i.make[0], i.make[1:]...))
}

func (i *imageFile) cold(context.Context, workload) error { return nil }

func (i *imageFile) mount(ctx context.Context, _ workload) (string, error) {
	if err := os.MkdirAll(i.dir(), 0o755); err != nil {
		return "", err
	}
	return i.dir(), output(exec.CommandContext(ctx, "mount", "-o", "ro,loop", "-t", i.fs, i.file, i.dir()))
}

func (i *imageFile) unmount() error { return unmounted(i.dir()) }

// squashfuse is the squashfs in user space.
type squashfuse struct{ imageFile }

func (q *squashfuse) mount(ctx context.Context, _ workload) (string, error) {
	if err := os.MkdirAll(q.dir(), 0o755); err != nil {
		return "", err
	}
	return q.dir(), output(exec.CommandContext(ctx, "squashfuse", "-o", "ro,allow_other", q.file, q.dir()))
}
