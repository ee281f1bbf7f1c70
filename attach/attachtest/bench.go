package attachtest

import (
	"testing"

	"github.com/windlass-hpc/windlass/attach"
)

// Benchmark measures Attach and Detach of one device.
func Benchmark(b *testing.B, s Suite) {
	f := newFixture(b, s)
	spec := f.Spec(b, f.image)
	id := attach.ID(0)
	for b.Loop() {
		id++
		dev, err := f.driver.Attach(b.Context(), id, spec, root())
		if err != nil {
			b.Fatal(err)
		}
		if err := f.driver.Detach(b.Context(), dev, false); err != nil {
			b.Fatal(err)
		}
	}
}
