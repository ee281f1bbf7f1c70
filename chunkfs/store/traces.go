package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// PutTrace keeps a trace beside its image, for t.Role, in place of one that is there. The image must be in the store.
func (s *Store) PutTrace(ctx context.Context, t *format.Trace) error {
	b, err := format.EncodeTrace(t)
	if err != nil {
		return err
	}
	rel, err := format.TracePath(t.Image, t.Role)
	if err != nil {
		return err
	}
	err = s.locked(ctx, exclusive, func() error {
		if _, err := s.Manifest(t.Image); err != nil {
			return err
		}
		return s.replace(rel, b)
	})
	if err != nil {
		return fmt.Errorf("keep the trace %s of %s: %w", t.Role, t.Image, err)
	}
	return nil
}

// Trace gives the trace of an image for a role; an error of kind NotFound when there is none.
func (s *Store) Trace(image format.Digest, role string) (*format.Trace, error) {
	rel, err := format.TracePath(image, role)
	if err != nil {
		return nil, err
	}
	b, err := readSmall(s.path(rel), format.MaxTrace+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "the image %s has no trace %s", image, role)
	}
	if err != nil {
		return nil, fmt.Errorf("trace %s of %s: %w", role, image, err)
	}
	t, err := format.DecodeTrace(b)
	if err == nil && (t.Image != image || t.Role != role) {
		err = fault.New(fault.Corrupt, "it is of %s of %s", t.Role, t.Image)
	}
	if err != nil {
		return nil, fmt.Errorf("trace %s of %s: %w", role, image, err)
	}
	return t, nil
}

// Roles lists the roles that an image has traces for.
func (s *Store) Roles(image format.Digest) ([]string, error) {
	entries, err := os.ReadDir(s.path(traceDir(image)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the traces of %s: %w", image, err)
	}
	var roles []string
	for _, e := range entries {
		if format.CheckRole(e.Name()) == nil {
			roles = append(roles, e.Name())
		}
	}
	return roles, nil
}

// RemoveTrace removes the trace of a role; one that is not there is not an error.
func (s *Store) RemoveTrace(ctx context.Context, image format.Digest, role string) error {
	rel, err := format.TracePath(image, role)
	if err != nil {
		return err
	}
	return s.locked(ctx, exclusive, func() error {
		if _, err := os.Lstat(s.path(rel)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return durable.Remove(ctx, s.path(rel))
	})
}

// traceDir is where the traces of an image lie.
func traceDir(image format.Digest) string {
	return path.Join(format.TraceDir, image.Algorithm.String(), image.Sum.String())
}
