package store

import (
	"context"
	"fmt"
	"os"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Txn is a change of the store that goes on. Nothing of it is seen by readers before Tag, and End without Tag leaves blobs that GC
// removes after the grace. Put, Pack and Known may be called from several goroutines.
type Txn struct {
	store *Store
	lease *lease
}

// End gives up the lease. It may be called again.
func (t *Txn) End() { t.lease.end() }

// Put stores a blob and makes it durable. One that is there already is looked at, and replaced when it is damaged.
func (t *Txn) Put(ctx context.Context, b []byte, alg format.Algorithm) (format.Digest, error) {
	d := alg.Of(b)
	if there, err := t.reuse(ctx, d, int64(len(b))); there || err != nil {
		return d, err
	}
	f, err := t.lease.temp()
	if err != nil {
		return d, fmt.Errorf("store the blob %s: %w", d, err)
	}
	defer f.Close()
	if _, err = f.Write(b); err == nil {
		err = t.publish(ctx, f, d)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return d, fmt.Errorf("store the blob %s: %w", d, err)
	}
	return d, nil
}

// reuse takes hold of a blob if the store has it, whole.
func (t *Txn) reuse(ctx context.Context, d format.Digest, size int64) (bool, error) {
	there, err := t.hold(ctx, d, size)
	if err != nil || !there {
		return false, err
	}
	f, err := os.Open(t.store.path(format.BlobPath(d)))
	if err != nil {
		return false, fmt.Errorf("reuse the blob %s: %w", d, err)
	}
	defer f.Close()
	sum, err := digestOf(ctx, d.Algorithm, f)
	if err != nil {
		return false, fmt.Errorf("reuse the blob %s: %w", d, err)
	}
	return sum == d, nil
}

// hold takes hold of a blob if it is there with this size; its content is not looked at.
func (t *Txn) hold(ctx context.Context, d format.Digest, size int64) (there bool, err error) {
	err = t.store.locked(ctx, shared, func() error {
		if there, err = t.store.present(d, size); !there || err != nil {
			return err
		}
		if err := t.lease.add("blob", d); err != nil {
			return err
		}
		return t.store.refresh(d)
	})
	if err != nil {
		return false, fmt.Errorf("reuse the blob %s: %w", d, err)
	}
	return there, nil
}

// publish gives a finished temporary file the name of its content.
func (t *Txn) publish(ctx context.Context, f *os.File, d format.Digest) error {
	// The bytes are made durable before the lock is taken, which is the slow part; under the lock there is nothing left to write.
	if err := f.Sync(); err != nil {
		return err
	}
	return t.store.locked(ctx, shared, func() error {
		if err := t.lease.add("blob", d); err != nil {
			return err
		}
		return place(ctx, f, t.store.path(format.BlobPath(d)))
	})
}

// Tag lets name be the image d, for all readers at once, when all that the image needs is there and durable. What the tag named before
// stays for the grace. The error is of kind NotFound or Corrupt when the image is not whole, Exists when the name is a directory of
// other tags or goes through one.
func (t *Txn) Tag(ctx context.Context, name string, d format.Digest) error {
	rel, err := format.TagPath(name)
	if err != nil {
		return err
	}
	err = t.store.locked(ctx, exclusive, func() error {
		if err := t.store.whole(d); err != nil {
			return err
		}
		return t.store.setTag(rel, d)
	})
	if err != nil {
		return fmt.Errorf("tag the image %s as %s: %w", d, name, err)
	}
	return nil
}

// whole says whether all blobs of an image are there with their sizes. Manifest and index are verified, the others not.
func (s *Store) whole(d format.Digest) error {
	m, err := s.Manifest(d)
	if err != nil {
		return err
	}
	x, err := s.Index(m)
	if err != nil {
		return err
	}
	missing := func(what string, d format.Digest, size int64) error {
		there, err := s.present(d, size)
		if err == nil && !there {
			err = fault.New(fault.NotFound, "its %s %s is not in the store", what, d)
		}
		return err
	}
	if err := missing("metadata", m.Metadata.Digest, m.Metadata.Size); err != nil {
		return err
	}
	for _, p := range x.Packs {
		if err := missing("pack", format.Digest{Algorithm: m.Algorithm, Sum: p.Sum}, p.Size); err != nil {
			return err
		}
	}
	return nil
}
