package attachtest

import (
	"cmp"
	"slices"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/attach"
)

func usable(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	if err := f.driver.Validate(spec); err != nil {
		t.Errorf("validate: %v", err)
	}
	f.wantGone(t, 1, spec)
	dev := f.attach(t, 1, spec)
	if dev.ID != 1 {
		t.Errorf("the device has id %d", dev.ID)
	}
	check(t, dev, f.content)
	if found, state := f.probe(t, 1, spec); state != attach.Ready || found != dev {
		t.Errorf("probe: state %d, %+v; attached was %+v", state, found, dev)
	}
}

func attachTwice(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	one, two := f.attach(t, 1, spec), f.attach(t, 2, spec)
	same := one.Path == two.Path || one.DevNum == two.DevNum
	if !f.Passive && same != f.Shared {
		t.Errorf("one is %+v, two is %+v", one, two)
	}
	f.detach(t, one)
	check(t, two, f.content)
	if found, state := f.probe(t, 2, spec); state != attach.Ready || found != two {
		t.Errorf("probe of the second: state %d, %+v", state, found)
	}
	f.wantGone(t, 1, spec)
}

func detachTwice(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	dev := f.attach(t, 1, spec)
	for range 2 {
		f.detach(t, dev)
		f.wantGone(t, 1, spec)
	}
	// Nothing was ever attached.
	f.detach(t, attach.Device{ID: 99})
	// Only the ID is known, as after a crash.
	again := f.attach(t, 2, spec)
	f.detach(t, attach.Device{ID: again.ID})
	f.wantGone(t, 2, spec)
}

func list(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	foreign := newFixture(t, f.Suite)
	mine := []attach.Device{f.attach(t, 1, spec), f.attach(t, 12, spec)}
	foreign.attach(t, 1, spec)
	got, err := f.driver.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Passive {
		mine = nil
	}
	slices.SortFunc(got, func(a, b attach.Device) int { return int(a.ID - b.ID) })
	// Of a partition the whole may be listed.
	same := func(got, mine attach.Device) bool {
		return got == mine || got.ID == mine.ID && got.Path == mine.Parent
	}
	if !slices.EqualFunc(got, mine, same) {
		t.Errorf("listed %+v\nattached %+v", got, mine)
	}
}

func many(t *testing.T, f fixture) {
	n := cmp.Or(f.Many, 50)
	spec := f.Spec(t, f.image)
	var mu sync.Mutex
	paths := map[string]attach.ID{}
	var wg sync.WaitGroup
	detach := make(chan struct{}) // closed when all are attached: only then it is sure that none has the path of another
	var attached sync.WaitGroup
	attached.Add(n)
	for i := range attach.ID(n) {
		wg.Go(func() {
			dev, err := f.driver.Attach(t.Context(), i+1, spec, root())
			attached.Done()
			if err != nil {
				t.Errorf("attach %d: %v", i+1, err)
				return
			}
			check(t, dev, f.content)
			mu.Lock()
			if other, taken := paths[dev.Path]; taken && !f.Passive && !f.Shared {
				t.Errorf("%d and %d are both %s", i+1, other, dev.Path)
			}
			paths[dev.Path] = i + 1
			mu.Unlock()
			<-detach
			if err := f.driver.Detach(t.Context(), dev, false); err != nil {
				t.Errorf("detach %d: %v", i+1, err)
			}
		})
	}
	attached.Wait()
	close(detach)
	wg.Wait()
	if left, err := f.driver.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}
