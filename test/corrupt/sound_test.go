package corrupt

import "testing"

// TestSound reads what nobody has damaged: what the other tests find is the damage.
func TestSound(t *testing.T) {
	i := small(t)
	if len(i.index.Packs) < 2 || len(i.index.Chunks) < 5 {
		t.Fatalf("%d packs and %d chunks are too few for the tests", len(i.index.Packs), len(i.index.Chunks))
	}
	from := origins(t, i.dir)
	d, err := resolve(t.Context(), from, tagName, i.digest)
	must(t, err)
	c := cacheIn(t, t.TempDir())
	defer c.Close()
	r, err := open(t.Context(), c, from, d)
	must(t, err)
	defer r.close()
	got, err := r.everything(t.Context())
	must(t, err)
	if diff := i.want.diff(got); diff != "" {
		t.Error(diff)
	}
	t.Logf("figure: the small image has %d files in %d packs, %d chunks, %d extents; stored %d bytes", i.manifest.Files, len(i.index.Packs), len(i.index.Chunks), len(i.index.Extents), i.manifest.Stored)
}
