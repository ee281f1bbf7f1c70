package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Blob gives a whole blob of at most limit bytes. Its digest is checked. Errors are of kind NotFound, Corrupt and TooLarge.
func (s *Store) Blob(d format.Digest, limit int64) ([]byte, error) {
	f, size, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, fault.New(fault.TooLarge, "the blob %s in the store %s has %d bytes, %d is the limit", d, s.dir, size, limit)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read the blob %s in the store %s: %w", d, s.dir, err)
	}
	if d.Algorithm.Of(b) != d {
		return nil, s.damaged(d, "its content has another digest")
	}
	return b, nil
}

func (s *Store) open(d format.Digest) (*os.File, int64, error) {
	if !d.Algorithm.Valid() {
		return nil, 0, fault.New(fault.Invalid, "a blob needs a digest")
	}
	f, err := os.Open(s.path(format.BlobPath(d)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fault.New(fault.NotFound, "the store %s has no blob %s", s.dir, d)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open the blob %s: %w", d, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = s.damaged(d, "it is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

func (s *Store) damaged(d format.Digest, what string) error {
	return fault.Hintf(fault.New(fault.Corrupt, "the blob %s in the store %s is damaged: %s", d, s.dir, what),
		"`windlass image check %s --repair FROM` fetches it from another store", s.dir)
}

// Manifest gives the manifest of an image, verified.
func (s *Store) Manifest(image format.Digest) (*format.Manifest, error) {
	b, err := s.Blob(image, format.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m, err := format.DecodeManifest(b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	return m, nil
}

// Index gives the index of an image, verified.
func (s *Store) Index(m *format.Manifest) (*format.Index, error) {
	plain, err := s.plain(m.Index)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	x, err := format.DecodeIndex(plain)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", m.Index.Digest, err)
	}
	if x.Algorithm != m.Algorithm || x.DeviceSize != m.Device {
		return nil, fault.New(fault.Corrupt, "index %s: it is of a device of %d bytes by %s; the manifest says %d by %s",
			m.Index.Digest, x.DeviceSize, x.Algorithm, m.Device, m.Algorithm)
	}
	return x, nil
}

// Metadata gives the EROFS metadata of an image, verified.
func (s *Store) Metadata(m *format.Manifest) ([]byte, error) {
	b, err := s.plain(m.Metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return b, nil
}

func (s *Store) plain(b format.Blob) ([]byte, error) {
	stored, err := s.Blob(b.Digest, b.Size)
	if err != nil {
		return nil, err
	}
	dec, err := format.NewDecoder()
	if err != nil {
		return nil, err
	}
	return dec.Blob(b, stored)
}

// OpenPack opens a pack. Its size is right; its content has not been looked at.
func (s *Store) OpenPack(p format.Pack, alg format.Algorithm) (*os.File, error) {
	d := format.Digest{Algorithm: alg, Sum: p.Sum}
	f, size, err := s.open(d)
	if err != nil {
		return nil, err
	}
	if size != p.Size {
		f.Close()
		return nil, s.damaged(d, fmt.Sprintf("it has %d bytes in place of %d", size, p.Size))
	}
	return f, nil
}

// digestOf reads r to its end.
func digestOf(ctx context.Context, alg format.Algorithm, r io.Reader) (format.Digest, error) {
	h := alg.Hash()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return format.Digest{}, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return alg.DigestOf(h), nil
		}
		if err != nil {
			return format.Digest{}, err
		}
	}
}
