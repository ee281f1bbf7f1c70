package serve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
)

// record is what was promised for a mount. It is written before anything is done, and removed when all of it is undone. It holds the
// secrets of the origins.
type record struct {
	Open  control.Open  `json:"open"`
	Node  uint64        `json:"node"`  // of the device file; never given twice
	Image format.Digest `json:"image"` // once it is known
	Mode  control.Mode  `json:"mode"`  // once it is chosen
	Init  []byte        `json:"init"`  // in mode fuse: the kernel's INIT, once that is answered
	Done  bool          `json:"done"`  // Open was answered, or was about to be
}

// image is a zero digest or a digest: format refuses to write the former.
func (r record) MarshalJSON() ([]byte, error) {
	type plain record
	p := struct {
		plain
		Image string `json:"image"`
	}{plain: plain(r)}
	if !r.Image.IsZero() {
		p.Image = r.Image.String()
	}
	return json.Marshal(p)
}

func (r *record) UnmarshalJSON(b []byte) error {
	type plain record
	p := struct {
		*plain
		Image string `json:"image"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(b, &p); err != nil || p.Image == "" {
		return err
	}
	d, err := format.ParseDigest(p.Image)
	r.Image = d
	return err
}

// newNode gives a number that was not given before, as good as surely: the kernel keeps what it read of a node for as long as it knows it.
func newNode() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])                             // it never fails
	return binary.NativeEndian.Uint64(b[:])>>2 | 1<<32 // a positive offset of a directory, and not that of the root
}

func (s *server) write(ctx context.Context, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of mount %s: %w", r.Open.ID, err)
	}
	return durable.WriteFile(ctx, s.place.Mount(r.Open.ID), b, 0o600)
}

// records reads what an earlier server left. A record that cannot be read is told and left: somebody has to look at it.
func (s *server) records() ([]*record, error) {
	entries, err := os.ReadDir(s.place.Mounts())
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	var all []*record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		path := filepath.Join(s.place.Mounts(), e.Name())
		if !ok {
			_ = os.Remove(path) // not finished when its writer died
			continue
		}
		b, err := os.ReadFile(path)
		r := new(record)
		if err == nil {
			err = json.Unmarshal(b, r)
		}
		if err == nil && r.Open.ID != id {
			err = fmt.Errorf("it is of mount %q", r.Open.ID)
		}
		if err != nil {
			s.log.WithError(err).WithField("record", path).Error("a record cannot be read and is left")
			continue
		}
		all = append(all, r)
	}
	return all, nil
}
