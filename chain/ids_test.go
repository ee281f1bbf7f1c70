package chain

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func withUsers(name string) *models.Container {
	spec := nested(name)
	spec.Namespaces = []models.ContainerNamespace{models.ContainerNamespaceUser}
	return spec
}

// wantIDs looks at what mount id was asked to show the last time it was mounted.
func (n *node) wantIDs(t *testing.T, id ID, want *idmap.Range) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	got, mounted := n.ids[id]
	if d := cmp.Diff(want, got); d != "" || !mounted {
		t.Errorf("ids of mount %d (mounted: %v): %s", id, mounted, d)
	}
}

func TestRootOfAUserNamespaceIsMountedWithItsIDs(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	v := create(t, c, withUsers("a"))
	n.wantIDs(t, v.Mount.ID, &idmap.Range{First: uint32(v.ID) * 1000, Size: 1000})
	n.wantIDs(t, v.Mount.Overlay.Lower[0].ID, nil)
	plain := create(t, c, nested("b"))
	n.wantIDs(t, plain.Mount.ID, nil)
}

// A root that is only named is there already, for others too.
func TestNamedRootKeepsItsIDs(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	m, err := c.Mount(t.Context(), nested("").Mount)
	if err != nil {
		t.Fatal(err)
	}
	spec := withUsers("a")
	spec.Mount = &models.Mount{ID: m.ID}
	create(t, c, spec)
	n.wantIDs(t, m.ID, nil)
}

// What has gone without us is raised again by the next daemon, as it was.
func TestIDsOutliveTheDaemon(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	v := create(t, c, withUsers("a"))
	c.Close()
	n.mu.Lock()
	delete(n.there, v.Mount.ID)
	delete(n.ids, v.Mount.ID)
	n.mu.Unlock()
	open(t, n, dir)
	n.wantIDs(t, v.Mount.ID, &idmap.Range{First: uint32(v.ID) * 1000, Size: 1000})
}
