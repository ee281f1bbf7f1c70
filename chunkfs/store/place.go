package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/failpoint"
)

// readable is the mode of every file that readers read: a web server runs as somebody else.
const readable = 0o644

// replace writes a small file so that readers see the old or the new. The exclusive lock is held, so the temporary name is ours alone,
// and what a crash left there is overwritten. It lies beside the leases: nothing in the directories that are served is ever half.
func (s *Store) replace(rel string, content []byte) error {
	tmp := s.path(leaseDir + "/small" + temporary)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, readable)
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path(rel), err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", s.path(rel), err)
	}
	return place(context.Background(), f, s.path(rel))
}

// place gives a file that is written its name, durably: its bytes, then its name, then the directory.
func place(ctx context.Context, f *os.File, to string) error {
	if err := f.Chmod(readable); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := makeDirs(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := failpoint.Hit(ctx, "store.rename:before"); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := failpoint.Hit(ctx, "store.rename:after"); err != nil {
		return err
	}
	return durable.SyncDir(ctx, filepath.Dir(to))
}

// present says whether the blob is there with this size. Its content is not looked at.
func (s *Store) present(d format.Digest, size int64) (bool, error) {
	st, err := os.Lstat(s.path(format.BlobPath(d)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.Mode().IsRegular() && st.Size() == size, nil
}

// refresh makes a blob young, so that the grace begins anew.
func (s *Store) refresh(d format.Digest) error {
	now := time.Now()
	return os.Chtimes(s.path(format.BlobPath(d)), now, now)
}
