package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// age makes all blobs and notes of a store old.
func age(t *testing.T, s *store.Store, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	for _, f := range append(files(t, s, "blobs"), files(t, s, "leases/former")...) {
		if err := os.Chtimes(filepath.Join(s.Dir(), f), then, then); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGCRemovesWhatNothingHolds(t *testing.T) {
	s := newStore(t)
	keep, drop := publish(t, s, "keep", 1, 2, 3, 4, 5), publish(t, s, "drop", 1, 2, 3, 4, 6)
	if _, err := s.RemoveTag(t.Context(), "drop"); err != nil {
		t.Fatal(err)
	}
	var told int64
	dry := collect(t, s, store.GCOptions{DryRun: true, Removed: func(_ format.Digest, n int64) { told += n }})
	if dry.Removed == 0 || dry.RemovedSize != told || !dry.DryRun {
		t.Fatalf("the dry run says %+v, and %d", dry, told)
	}
	if _, err := s.Manifest(drop); err != nil {
		t.Fatalf("the dry run removed: %v", err)
	}
	r := collect(t, s, store.GCOptions{})
	// Its manifest, index and one pack; pack and metadata that both have stay.
	if r.Removed != 3 || r.RemovedSize != told || r.Images != 1 || r.KeptBlobs != 5 {
		t.Errorf("got %+v", r)
	}
	if _, err := s.Manifest(drop); !fault.Is(err, fault.NotFound) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := s.Manifest(keep); err != nil {
		t.Error(err)
	}
	sound(t, s)
}

func TestAnImageThatLostItsNameIsKeptForTheGrace(t *testing.T) {
	for name, lose := range map[string]func(s *store.Store, d format.Digest) error{
		"removed": func(s *store.Store, _ format.Digest) error { _, err := s.RemoveTag(t.Context(), "a"); return err },
		"moved": func(s *store.Store, _ format.Digest) error {
			txn := begin(t, s)
			defer txn.End()
			other, err := put(t.Context(), txn, format.BLAKE3, nil, 99)
			if err != nil {
				return err
			}
			return txn.Tag(t.Context(), "a", other)
		},
		"unpinned": func(s *store.Store, d format.Digest) error {
			if err := s.Pin(t.Context(), d, "nodes run it"); err != nil {
				return err
			}
			if _, err := s.RemoveTag(t.Context(), "a"); err != nil {
				return err
			}
			age(t, s, 48*time.Hour)
			if r := collect(t, s, store.GCOptions{Grace: store.Grace}); r.Removed > 0 {
				t.Errorf("the pin does not hold: %+v", r)
			}
			return s.Unpin(t.Context(), d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			d := publish(t, s, "a", 1, 2, 3)
			age(t, s, 30*24*time.Hour) // it was built long ago
			if err := lose(s, d); err != nil {
				t.Fatal(err)
			}
			if r := collect(t, s, store.GCOptions{Grace: store.Grace}); r.Removed > 0 || r.YoungBlobs < 3 {
				t.Fatalf("what a reader may need: %+v", r)
			}
			age(t, s, 25*time.Hour)
			if r := collect(t, s, store.GCOptions{Grace: store.Grace}); r.Removed < 3 {
				t.Fatalf("it is kept for ever: %+v", r)
			}
			if left := files(t, s, "leases"); len(left) != 1 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestALeaseHoldsWhatItWroteAndWhatItReuses(t *testing.T) {
	s := newStore(t)
	publish(t, s, "v1", 1, 2, 3, 4)
	txn := begin(t, s)
	known, err := txn.Known(t.Context(), format.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveTag(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	age(t, s, time.Hour)
	if r := collect(t, s, store.GCOptions{}); r.Removed > 0 {
		t.Fatalf("what the build may reuse went: %+v", r)
	}
	d, err := put(t.Context(), txn, format.BLAKE3, known, 1, 2, 3, 4, 5)
	if err != nil {
		t.Fatal(err)
	}
	age(t, s, time.Hour)
	if r := collect(t, s, store.GCOptions{}); r.Removed > 0 {
		t.Fatalf("what the build wrote went: %+v", r)
	}
	if err := txn.Tag(t.Context(), "v2", d); err != nil {
		t.Fatal(err)
	}
	txn.End()
	if r := collect(t, s, store.GCOptions{}); r.Removed != 3 { // manifest, index and metadata of v1
		t.Errorf("got %+v", r)
	}
	sound(t, s)
}

func TestABuildWithoutATagLeavesNothing(t *testing.T) {
	s := newStore(t)
	txn := begin(t, s)
	if _, err := put(t.Context(), txn, format.BLAKE3, nil, 1, 2, 3); err != nil {
		t.Fatal(err)
	}
	txn.End()
	if r := collect(t, s, store.GCOptions{Grace: time.Hour}); r.Removed != 0 || r.YoungBlobs != 4 {
		t.Errorf("within the grace: %+v", r)
	}
	if r := collect(t, s, store.GCOptions{}); r.Removed != 4 {
		t.Errorf("got %+v", r)
	}
}

func TestGCRemovesNothingWhenATagCannotBeRead(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "a", 1, 2)
	publish(t, s, "b", 3)
	if _, err := s.RemoveTag(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	m, err := s.Manifest(d)
	if err != nil {
		t.Fatal(err)
	}
	before := len(files(t, s, "blobs"))
	p := filepath.Join(s.Dir(), format.BlobPath(m.Index.Digest))
	b, _ := os.ReadFile(p)
	if err := os.WriteFile(p, append(b, 0), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = s.GC(t.Context(), store.GCOptions{})
	if err == nil || !strings.Contains(err.Error(), "a: nothing is removed") || !strings.Contains(fault.HintOf(err), "--repair") {
		t.Fatalf("got %v (%s)", err, fault.HintOf(err))
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "tags", "a"), []byte("?"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = s.GC(t.Context(), store.GCOptions{})
	wantKind(t, err, fault.Corrupt, "a: ")
	if after := len(files(t, s, "blobs")); after != before {
		t.Errorf("%d of %d blobs are left", after, before)
	}
}

func TestPinsAreListedWithTheirReason(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "a", 1)
	for _, why := range []string{"first", "the nodes of rack 3 run it"} {
		if err := s.Pin(t.Context(), d, why); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Pins()
	if err != nil || len(list) != 1 || list[0].Image != d || list[0].Reason != "the nodes of rack 3 run it" {
		t.Fatalf("got %+v, %v", list, err)
	}
	if err := s.Unpin(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Unpin(t.Context(), d), fault.NotFound)
}

// TestALeaseOfAnotherNodeHoldsWhileItIsTouched: its lock cannot be seen from here.
func TestALeaseOfAnotherNodeHoldsWhileItIsTouched(t *testing.T) {
	s := newStore(t)
	txn := begin(t, s)
	d, err := txn.Put(t.Context(), []byte("theirs"), format.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	txn.End()
	lease := filepath.Join(s.Dir(), "leases", "lease-other")
	for name, text := range map[string]string{lease: `{"host":"other","boot":"another boot","pid":1}` + "\nblob " + d.String() + "\nblob bla", lease + ".1~": "half"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := collect(t, s, store.GCOptions{}); r.Removed+int64(r.Leases)+int64(r.Temps) > 0 {
		t.Fatalf("it was taken for dead: %+v", r)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(lease, old, old); err != nil {
		t.Fatal(err)
	}
	if r := collect(t, s, store.GCOptions{}); r.Removed != 1 || r.Leases != 1 || r.Temps != 1 {
		t.Fatalf("got %+v", r)
	}
}
