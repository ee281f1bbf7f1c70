package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// partSuffix marks an export that is not finished.
const partSuffix = ".part"

// toFile lets write make a file, which gets its name when it is whole. One that is there is replaced only if it is a regular file.
func toFile(ctx context.Context, path string, write func(f *os.File) error) (err error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fault.New(fault.Invalid, "%s is there and is not a regular file", path)
	}
	f, err := os.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			_ = os.Remove(path + partSuffix)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return err
	}
	return durable.SyncDir(ctx, filepath.Dir(path))
}

// TarFile writes Tar to a file, which gets its name when it is whole.
func (i *Image) TarFile(ctx context.Context, path string, o ExportOptions) error {
	return toFile(ctx, path, func(f *os.File) error { return i.Tar(ctx, f, o) })
}

// ErofsFile writes the image as a single EROFS image, not compressed, that any kernel with EROFS mounts: metadata first, then the data,
// of which holes are holes of the file.
func (i *Image) ErofsFile(ctx context.Context, path string, o ExportOptions) error {
	root, err := i.Tree(ctx)
	if err != nil {
		return err
	}
	err = toFile(ctx, path, func(f *os.File) error { return i.erofs(ctx, f, root, o) })
	if err != nil {
		return fmt.Errorf("export %s as EROFS: %w", i.Ref, err)
	}
	return nil
}

func (i *Image) erofs(ctx context.Context, f *os.File, root *erofs.Node, o ExportOptions) error {
	opts := erofs.Options{DeviceSize: i.Manifest.Device, SameDevice: true}
	id := sha256.Sum256([]byte(i.Digest.String()))
	copy(opts.UUID[:], id[:]) // of the image, so that the same image gives the same bytes
	opts.UUID[6], opts.UUID[8] = opts.UUID[6]&0x0f|0x80, opts.UUID[8]&0x3f|0x80
	start, err := erofs.Write(f, root, opts)
	if err != nil {
		return err
	}
	if err := f.Truncate(start + i.Manifest.Device); err != nil {
		return err
	}
	c := i.content(ctx)
	defer c.Close()
	return c.read(0, i.Manifest.Device, func(off int64, piece []byte, size int64) error {
		if o.Progress != nil {
			o.Progress(off+size, i.Manifest.Device)
		}
		if piece == nil {
			return nil
		}
		_, err := f.WriteAt(piece, start+off)
		return err
	})
}

// SquashfsFile writes the image as a squashfs, by mksquashfs of squashfs-tools 4.5 or later; an error of kind Unsupported says that there is
// none. It holds no sockets, no access lists and no attributes of the root; Skipped is told of them. Times are whole
// seconds of 32 bits, and that of the root is the latest of all.
func (i *Image) SquashfsFile(ctx context.Context, path string, o ExportOptions) error {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return fault.New(fault.Invalid, "%s is there and is not a regular file", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	root, err := i.Tree(ctx)
	if err != nil {
		return err
	}
	part := path + partSuffix
	if err := i.squashfs(ctx, part, root, o); err != nil {
		_ = os.Remove(part)
		return fmt.Errorf("export %s as squashfs: %w", i.Ref, err)
	}
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return durable.SyncDir(ctx, filepath.Dir(path))
}
