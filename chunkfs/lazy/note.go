package lazy

import "github.com/windlass-hpc/windlass/chunkfs/format"

// The marks of a chunk.
const (
	markWanted  = 1 << iota // a reader has wanted it
	markTraced              // and since StartTrace
	markTrigger             // when a reader gets here, more is to be fetched ahead
	markAlong               // it was fetched along with a miss
)

// note is told of every extent that a reader wants. For nearly all of them there is nothing to do, which it finds out by a look at the
// chunk's marks.
func (d *Device) note(i int) {
	chunk := d.index.Extents[i].Chunk
	if chunk == format.Zero {
		return
	}
	need, has := d.noting.Load(), d.marks[chunk].Load()
	if has&need == need && has&markTrigger == 0 {
		return
	}
	had := d.marks[chunk].Or(need)
	missing := need &^ had
	if missing&markWanted != 0 {
		d.wantedFirst(chunk, had)
	}
	if missing&markTraced != 0 {
		d.record(i)
	}
	if d.marks[chunk].And(^uint32(markTrigger))&markTrigger != 0 {
		d.triggered(i)
	}
}

func (d *Device) wantedFirst(chunk, had uint32) {
	stored := int64(d.index.Chunks[chunk].Stored)
	d.counters.needed.Add(stored)
	if had&markAlong != 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.line.used += stored
	}
}

func (d *Device) record(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.noting.Load()&markTraced != 0 {
		d.trace = append(d.trace, i)
	}
}

// StartTrace begins to record, anew, in which order readers want extents for the first time.
func (d *Device) StartTrace() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trace = nil
	for c := range d.marks {
		d.marks[c].And(^uint32(markTraced))
	}
	d.noting.Store(markWanted | markTraced)
}

// StopTrace ends that and gives the numbers of the extents in that order. Of several extents of one chunk it names one, holes never.
func (d *Device) StopTrace() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noting.Store(markWanted)
	t := d.trace
	d.trace = nil
	return t
}
