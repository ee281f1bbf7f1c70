package rescue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/durable"
)

// A file of the cache is named by what it was built of and by its own digest: rescue-KEY-SUM.cpio. One whose content is another is built
// anew.

// cached gives what is in the cache, or nil.
func (c Config) cached(key string) (*cpio.Tree, error) {
	files, err := filepath.Glob(filepath.Join(c.Cache, "rescue-"+key+"-*.cpio"))
	if err != nil {
		return nil, fmt.Errorf("the cache of the rescue layer: %w", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || filepath.Base(file) != fileName(key, data) {
			continue
		}
		if t, err := read(bytes.NewReader(data)); err == nil {
			return t, nil
		}
	}
	return nil, nil
}

// keep puts the layer into the cache.
func (c Config) keep(ctx context.Context, key string, t *cpio.Tree) error {
	var b bytes.Buffer
	if _, err := t.Write(&b, 0); err != nil {
		return fmt.Errorf("the cache of the rescue layer: %w", err)
	}
	if err := os.MkdirAll(c.Cache, 0o755); err != nil {
		return fmt.Errorf("the cache of the rescue layer: %w", err)
	}
	return durable.WriteFile(ctx, filepath.Join(c.Cache, fileName(key, b.Bytes())), b.Bytes(), 0o644)
}

func fileName(key string, data []byte) string {
	sum := sha256.Sum256(data)
	return "rescue-" + key + "-" + hex.EncodeToString(sum[:16]) + ".cpio"
}

// read takes u-root's archive over, with modes that do not depend on the umask.
func read(r io.Reader) (*cpio.Tree, error) {
	t, in := &cpio.Tree{}, cpio.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the rescue layer: %w", err)
		}
		e := h.Entry
		e.UID, e.GID = 0, 0
		switch e.Type() {
		case cpio.TypeRegular:
			e.Mode = cpio.TypeRegular | 0o755 // all of them are programs
			e.Data, err = io.ReadAll(in)
		case cpio.TypeDir:
			e.Mode = cpio.TypeDir | 0o755
		}
		if err = errors.Join(err, t.Add(e)); err != nil {
			return nil, fmt.Errorf("read the rescue layer: %w", err)
		}
	}
}
