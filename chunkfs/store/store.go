// Package store is a store of images in a directory, as any web server can serve it: blobs by digest, tags, traces, pins. It publishes
// atomically and collects what nothing holds.
//
// It owns the layout of docs/chunkfs/format.md below one directory, and is safe among any number of processes that build, tag, collect
// and read there at once, on a file system whose flock(2) all of them see. It never knows how an image is built or mounted.
//
// What protects a blob from GC: a tag or a pin of an image that needs it; a lease (a Txn that goes on) that wrote, reused or read it; the
// grace after it was written, last reused, or lost the tag or pin that held it.
//
// Locks: leases/lock is held shared while a Txn takes hold of something and exclusively while tags and pins change and while GC removes;
// it is the only lock, and nothing slow happens under it. Each lease is a file that its Txn keeps locked.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// What the owner of a store keeps beside what readers read.
const (
	pinDir    = "pins"
	leaseDir  = "leases"
	formerDir = leaseDir + "/former"
	lockFile  = leaseDir + "/lock"
)

// temporary marks files that are not finished. No tag ends in it.
const temporary = "~"

// Store is an open store. Its methods may be called from several goroutines.
type Store struct{ dir string }

// Create opens the store in dir, and makes it when dir is not there or empty. A directory that holds something else is refused with
// an error of kind Exists.
func Create(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make a store in %s: %w", dir, err)
	}
	s := &Store{dir}
	if _, err := os.Lstat(s.path(format.StoreFile)); err == nil {
		return Open(dir)
	}
	if err := s.free(); err != nil {
		return nil, err
	}
	if err := s.make(); err != nil {
		return nil, fmt.Errorf("make a store in %s: %w", dir, err)
	}
	return s, nil
}

// free refuses a directory that holds what is not ours. What a creation left that was cut off is ours.
func (s *Store) free() error {
	list, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a store: %w", err)
	}
	for _, e := range list {
		switch e.Name() {
		case format.BlobDir, format.TagDir, format.TraceDir, pinDir, leaseDir:
		default:
			err := fault.New(fault.Exists, "make a store in %s: the directory is no store and holds %q", s.dir, e.Name())
			return fault.Hintf(err, "name another directory, or an empty one")
		}
	}
	return nil
}

func (s *Store) make() error {
	if err := makeDirs(s.dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{format.BlobDir, format.TagDir, format.TraceDir, pinDir} {
		if err := makeDirs(s.path(d), 0o755); err != nil {
			return err
		}
	}
	if err := makeDirs(s.path(formerDir), 0o700); err != nil {
		return err
	}
	return s.locked(context.Background(), exclusive, s.writeStoreFile)
}

func (s *Store) writeStoreFile() error {
	return s.replace(format.StoreFile, []byte(storeFile()))
}

// storeFile is the whole content of format.StoreFile.
func storeFile() string { return fmt.Sprintf("{\"layout\":%d}\n", format.Layout) }

// Open opens the store in dir. The error is of kind NotFound when there is none, Corrupt when the file that marks it is damaged, and
// Unsupported when it is of a later layout.
func Open(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", dir, err)
	}
	s := &Store{dir}
	if err := s.checkStoreFile(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Store) checkStoreFile() error {
	b, err := readSmall(s.path(format.StoreFile), 4096)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
		err := fault.New(fault.NotFound, "there is no store in %s: it has no %s", s.dir, format.StoreFile)
		return fault.Hintf(err, "`windlass image build` makes one")
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	if string(b) == storeFile() {
		return nil
	}
	var other struct{ Layout int }
	if json.Unmarshal(b, &other) == nil && other.Layout > format.Layout {
		return fault.New(fault.Unsupported, "the store in %s has layout %d; this windlass knows %d", s.dir, other.Layout, format.Layout)
	}
	return fault.Hintf(fault.New(fault.Corrupt, "open the store in %s: %s is damaged", s.dir, format.StoreFile),
		"`windlass image check --repair` mends it")
}

// OpenDamaged opens a store whose format.StoreFile may be damaged or missing, for Check. It must look like a store all the same.
func OpenDamaged(dir string) (*Store, error) {
	s, err := Open(dir)
	if err == nil || fault.Is(err, fault.Unsupported) {
		return s, err
	}
	abs, aerr := filepath.Abs(dir)
	for _, d := range []string{format.BlobDir, format.TagDir} {
		if st, serr := os.Stat(filepath.Join(abs, d)); aerr != nil || serr != nil || !st.IsDir() {
			return nil, err
		}
	}
	return &Store{abs}, nil
}

// Dir is the store's directory, an absolute path.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(rel string) string { return filepath.Join(s.dir, filepath.FromSlash(rel)) }

// makeDirs makes a directory and its parents, each with this mode whatever the umask, and makes them durable. Those that are there stay as
// they are.
func makeDirs(dir string, mode os.FileMode) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("make the directory %s: %w", dir, errNotDir)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDirs(parent, mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, mode); err != nil {
		return err
	}
	return durable.SyncDir(context.Background(), parent)
}

// readSmall reads a whole file of at most limit bytes; a longer one is Corrupt.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fault.New(fault.Corrupt, "%s has more than %d bytes", path, limit)
	}
	return b, nil
}

// unfinished says of a name in a store that it is of a temporary file.
func unfinished(name string) bool { return strings.HasSuffix(name, temporary) }
