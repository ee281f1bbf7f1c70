//go:build lab

package storage

import (
	"slices"
	"testing"
	"time"
)

// TestFigures measures how long a container takes from the request until it runs, on each kind of storage, in a machine that is emulated.
func TestFigures(t *testing.T) {
	w := begin(t)
	for _, name := range examples {
		def := w.small(name, waits)
		var took []time.Duration
		for range 3 {
			began := time.Now()
			c := w.run(def)
			took = append(took, time.Since(began))
			w.remove(c)
		}
		slices.Sort(took)
		t.Logf("figure: POST to running on %s: median of %d %v, longest %v", name, len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	}
	lab(t).nobody(t)
}
