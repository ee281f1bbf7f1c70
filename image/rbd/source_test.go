package rbd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestStretches: put together over zeros they are what was cut up, and no stretch begins or ends with a grain of zeros.
func TestStretches(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for range 500 {
		p := make([]byte, random.Intn(20*grain))
		for at := 0; at < len(p); at += grain {
			if random.Intn(2) == 0 {
				p[min(at+random.Intn(grain), len(p)-1)] = 1
			}
		}
		again, last := make([]byte, len(p)), -1
		for at, part := range stretches(p) {
			if at <= last || at%grain != 0 {
				t.Fatalf("a stretch begins at %d after %d", at, last)
			}
			last = at + len(part)
			zeros := make([]byte, grain)
			if bytes.Equal(part[:min(grain, len(part))], zeros[:min(grain, len(part))]) {
				t.Fatal("a stretch begins with zeros")
			}
			copy(again[at:], part)
		}
		if !bytes.Equal(p, again) {
			t.Fatal("something is missing")
		}
	}
}

func TestSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	data := append([]byte("hsqs"), bytes.Repeat([]byte("x"), 9000)...)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openSource(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.size() != 12288 || s.length != 9004 || s.holds != "squashfs" {
		t.Errorf("%+v", s)
	}
	buf, got := make([]byte, 4096), []byte{}
	for at := range pieces(t.Context(), s.length, 4096) {
		n, err := s.read(at, buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	sum := sha256.Sum256(data)
	if !bytes.Equal(got, data) || s.digest() != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Error("it was read wrong")
	}
	if err := s.unchanged(); err != nil {
		t.Error(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.unchanged(); !fault.Is(err, fault.BadState) {
		t.Errorf("it was changed: %v", err)
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.read(4096, buf); err == nil {
		t.Error("what is cut off is read")
	}
}

func TestNoSource(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]fault.Kind{dir: fault.Invalid, empty: fault.Invalid, filepath.Join(dir, "missing"): fault.NotFound, "/dev/null": fault.Invalid} {
		if _, err := openSource(path); !fault.Is(err, kind) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
