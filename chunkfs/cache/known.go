package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// known is what describes an image, verified.
type known struct {
	manifest *format.Manifest
	index    *format.Index
}

// decode verifies what Add was given.
func decode(image format.Digest, manifest, index, metadata []byte) (known, []byte, error) {
	k, err := decodeKnown(image, manifest, index)
	if err != nil {
		return known{}, nil, err
	}
	plain, err := decodeBlob(k.manifest.Metadata, metadata)
	if err != nil {
		return known{}, nil, fmt.Errorf("metadata: %w", err)
	}
	return k, plain, nil
}

func decodeKnown(image format.Digest, manifest, index []byte) (known, error) {
	if !image.Algorithm.Valid() {
		return known{}, fault.New(fault.Invalid, "an image is named by a digest")
	}
	if got := image.Algorithm.Of(manifest); got != image {
		return known{}, fault.New(fault.Corrupt, "manifest has the digest %s", got)
	}
	m, err := format.DecodeManifest(manifest)
	if err != nil {
		return known{}, err
	}
	plain, err := decodeBlob(m.Index, index)
	if err != nil {
		return known{}, fmt.Errorf("index: %w", err)
	}
	x, err := format.DecodeIndex(plain)
	if err != nil {
		return known{}, fmt.Errorf("index: %w", err)
	}
	if x.Algorithm != m.Algorithm || x.DeviceSize != m.Device {
		return known{}, fault.New(fault.Corrupt, "index and manifest do not agree: %s and %d bytes here, %s and %d there", x.Algorithm, x.DeviceSize, m.Algorithm, m.Device)
	}
	return known{m, x}, nil
}

func decodeBlob(b format.Blob, stored []byte) ([]byte, error) {
	d, err := format.NewDecoder()
	if err != nil {
		return nil, err
	}
	return d.Blob(b, stored)
}

// read verifies what the directory says of the image. An image that is loaded has been read.
func (e *entry) read() (known, error) {
	e.cache.mu.Lock()
	m := e.image
	e.cache.mu.Unlock()
	if m != nil {
		return known{m.manifest, m.index}, nil
	}
	manifest, err := readFile(e.path(manifestFile), format.MaxManifest)
	if err != nil {
		return known{}, err
	}
	index, err := readFile(e.path(indexFile), format.MaxIndex)
	if err != nil {
		return known{}, err
	}
	return decodeKnown(e.digest, manifest, index)
}

// checkMetadata verifies the metadata as it lies there. The manifest has the digest of the stored bytes alone, so that of the plain
// ones was noted when they were verified.
func (e *entry) checkMetadata() error {
	says, err := readFile(e.path(sumFile), 100)
	if err != nil {
		return err
	}
	want, err := format.ParseDigest(string(says))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(e.path(metadataFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	h := want.Algorithm.Hash()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := want.Algorithm.DigestOf(h); got != want {
		return fault.New(fault.Corrupt, "metadata has the digest %s and should have %s", got, want)
	}
	return nil
}

// write puts the files of an image there; the manifest, last, says that they are complete. What is there of the data stays.
func (e *entry) write(manifest, index, metadata []byte) error {
	if err := os.Mkdir(e.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{indexFile, index},
		{metadataFile, metadata},
		{sumFile, []byte(format.BLAKE3.Of(metadata).String())},
		{manifestFile, manifest},
	} {
		if err := writeFile(e.path(f.name), f.b); err != nil {
			return err
		}
	}
	return nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fault.New(fault.Corrupt, "%s is larger than %d bytes", path, limit)
	}
	return b, err
}
