package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// PinInfo is a pin: it keeps an image whatever becomes of its tags.
type PinInfo struct {
	Image  format.Digest `json:"image"`
	Reason string        `json:"reason"`
	Time   time.Time     `json:"time"`
}

// maxReason is how long a pin's reason may be, in bytes.
const maxReason = 1024

func pinPath(d format.Digest) string {
	return pinDir + "/" + d.Algorithm.String() + "-" + d.Sum.String()
}

// Pin keeps an image until Unpin. A second Pin changes the reason.
func (s *Store) Pin(ctx context.Context, d format.Digest, reason string) error {
	if len(reason) > maxReason {
		return fault.New(fault.Invalid, "pin the image %s: a reason of %d bytes is longer than %d", d, len(reason), maxReason)
	}
	text, err := json.Marshal(PinInfo{d, reason, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fmt.Errorf("pin the image %s: %w", d, err)
	}
	err = s.locked(ctx, exclusive, func() error {
		if err := s.whole(d); err != nil {
			return err
		}
		return s.replace(pinPath(d), append(text, '\n'))
	})
	if err != nil {
		return fmt.Errorf("pin the image %s: %w", d, err)
	}
	return nil
}

// Unpin takes the pin away; the image stays for the grace, or as long as a tag names it.
func (s *Store) Unpin(ctx context.Context, d format.Digest) error {
	err := s.locked(ctx, exclusive, func() error {
		if _, err := os.Lstat(s.path(pinPath(d))); errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.NotFound, "it has no pin")
		} else if err != nil {
			return err
		}
		if err := s.leave(d); err != nil {
			return err
		}
		return durable.Remove(ctx, s.path(pinPath(d)))
	})
	if err != nil {
		return fmt.Errorf("unpin the image %s: %w", d, err)
	}
	return nil
}

// Pins lists the pins. Of a damaged one the name says enough: it has no reason then.
func (s *Store) Pins() ([]PinInfo, error) {
	names, err := s.digestNames(pinDir)
	if err != nil {
		return nil, fmt.Errorf("list the pins of %s: %w", s.dir, err)
	}
	var list []PinInfo
	for _, d := range names {
		var p PinInfo
		b, err := readSmall(s.path(pinPath(d)), 4096)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || json.Unmarshal(b, &p) != nil {
			p = PinInfo{}
		}
		p.Image = d
		list = append(list, p)
	}
	return list, nil
}

// digestNames lists a directory of files that are named ALGORITHM-SUM.
func (s *Store) digestNames(rel string) ([]format.Digest, error) {
	entries, err := os.ReadDir(s.path(rel))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []format.Digest
	for _, e := range entries {
		d, err := format.ParseDigest(strings.Replace(e.Name(), "-", ":", 1))
		if err == nil {
			list = append(list, d)
		}
	}
	return list, nil
}
