package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// versioned gives every item a version that follows from the path and n, and counts the files that are opened.
func versioned(f *fake, n int) (*fake, *atomic.Int64) {
	opened := new(atomic.Int64)
	for i := range f.items {
		item := &f.items[i]
		open := item.Open
		if open == nil {
			continue
		}
		item.Version = fmt.Sprint(item.Path, n, i)
		item.Open = func() (source.Content, error) {
			opened.Add(1)
			return open()
		}
	}
	return f, opened
}

func TestWhatHasNotChangedIsNotReadAgain(t *testing.T) {
	st, o := newStore(t), options()
	plain := mustBuild(t, newStore(t), everything(true), o)
	o.Recall = filepath.Join(t.TempDir(), "recall")
	first, opened := versioned(everything(true), 1)
	a := mustBuild(t, st, first, o)
	if a.Image != plain.Image || a.Recall != nil {
		t.Errorf("with a recall the image is another: %v, %v", a.Image, a.Recall)
	}
	all := opened.Load()
	second, opened := versioned(everything(true), 1)
	b := mustBuild(t, st, second, o)
	if b.Image != plain.Image || b.New != 0 {
		t.Errorf("the second time the image is another: %+v", b)
	}
	if n := opened.Load(); n > all/3 { // those that lie in the metadata are read
		t.Errorf("%d of %d files were read again", n, all)
	}
	// One file changes: it and its group are read, and the image is the one that a build without memory makes.
	changed := func() *fake {
		f := everything(true)
		f.file("small/fm", text(4242, 2500))
		return f
	}
	third, thirdOpened := versioned(changed(), 1)
	c := mustBuild(t, st, third, o)
	if n := thirdOpened.Load() - opened.Load(); n < 1 || n > 30 {
		t.Errorf("a change in one file let %d more be read", n)
	}
	compare(t, st, c.Image, third)
	o.Recall = ""
	if d := mustBuild(t, st, changed(), o); d.Image != c.Image {
		t.Errorf("%v with a recall, %v without", c.Image, d.Image)
	}
}

// What is remembered is of no use where the store does not have the chunks, and does no harm.
func TestRecallWithAnotherStore(t *testing.T) {
	o := options()
	o.Recall = filepath.Join(t.TempDir(), "recall")
	src, _ := versioned(everything(true), 1)
	a := mustBuild(t, newStore(t), src, o)
	st := newStore(t)
	src, _ = versioned(everything(true), 1)
	b := mustBuild(t, st, src, o)
	if a.Image != b.Image {
		t.Errorf("%v and %v", a.Image, b.Image)
	}
	compare(t, st, b.Image, src)
	o.MinChunk = 8 << 10 // other chunks: nothing of it counts
	src, opened := versioned(everything(true), 1)
	mustBuild(t, st, src, o)
	if opened.Load() < 300 {
		t.Errorf("%d files were read for chunks of another size", opened.Load())
	}
}

// A damaged file is as good as none.
func TestRecallDamaged(t *testing.T) {
	st, o := newStore(t), options()
	o.Recall = filepath.Join(t.TempDir(), "recall")
	src, _ := versioned(everything(true), 1)
	a := mustBuild(t, st, src, o)
	good, err := os.ReadFile(o.Recall)
	if err != nil {
		t.Fatal(err)
	}
	for i, spoil := range []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { return nil },
	} {
		if err := os.WriteFile(o.Recall, spoil(append([]byte(nil), good...)), 0o600); err != nil {
			t.Fatal(err)
		}
		src, opened := versioned(everything(true), 1)
		if b := mustBuild(t, st, src, o); b.Image != a.Image || opened.Load() < 300 {
			t.Errorf("%d: %+v, %d files read", i, b, opened.Load())
		}
	}
	o.Recall = "/nowhere/recall"
	if b := mustBuild(t, st, src, o); b.Image != a.Image || b.Recall == nil {
		t.Errorf("a place that cannot be written: %+v", b)
	}
}

// A small file that changed though its version did not is found out when it is read again.
func TestVersionThatLies(t *testing.T) {
	st, o := newStore(t), options()
	o.Recall = filepath.Join(t.TempDir(), "recall")
	tree := func(a, b []byte) *fake {
		f := &fake{random: true}
		f.file("a", a)
		f.file("b", b)
		f, _ = versioned(f, 1)
		return f
	}
	mustBuild(t, st, tree(text(1, 3000), text(2, 3000)), o)
	f := tree(text(3, 3000), text(4, 3001)) // the size of b tells
	if _, err := build.Build(t.Context(), f, st, o); !fault.Is(err, fault.BadState) {
		t.Errorf("%v", err)
	}
}
