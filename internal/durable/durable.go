// Package durable replaces small files so that a reader, or a daemon that starts after a crash, sees the old content or the new,
// never half.
package durable

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/internal/failpoint"
)

// WriteFile writes data to a temporary name beside path, syncs it, renames it to path and syncs the directory. Mode is exact: the
// umask does not apply. A temporary file that a crash leaves has the suffix TempSuffix.
func WriteFile(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	if err := Replace(ctx, path, data, mode); err != nil {
		return err
	}
	return SyncDir(ctx, filepath.Dir(path))
}

// Replace is WriteFile without the sync of the directory, for who replaces several files and then calls SyncDir once.
func Replace(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	tmp := path + TempSuffix
	if err := replace(ctx, tmp, path, data, mode); err != nil {
		_ = os.Remove(tmp) // gone already when it was renamed
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func replace(ctx context.Context, tmp, path string, data []byte, mode os.FileMode) error {
	if err := writeSynced(ctx, tmp, data, mode); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "durable.rename:before"); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return failpoint.Hit(ctx, "durable.rename:after")
}

// TempSuffix marks files that were not finished; whoever reads the directory skips or removes them.
const TempSuffix = ".tmp"

// Remove deletes path and syncs its directory. A file that is not there is not an error.
func Remove(ctx context.Context, path string) error {
	if err := failpoint.Hit(ctx, "durable.remove:before"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := failpoint.Hit(ctx, "durable.remove:after"); err != nil {
		return err
	}
	return SyncDir(ctx, filepath.Dir(path))
}

// SyncDir makes renames and removals in a directory durable.
func SyncDir(ctx context.Context, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return failpoint.Hit(ctx, "durable.syncdir:after")
}

func writeSynced(ctx context.Context, path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "durable.fsync:before"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := failpoint.Hit(ctx, "durable.fsync:after"); err != nil {
		return err
	}
	return f.Close()
}
