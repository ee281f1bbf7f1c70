package lazy

import (
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func (d *Device) fetch(r *run) {
	defer r.cancel()
	pack := d.index.Chunks[r.flights[0].chunk].Pack
	f := origin.Fetch{Pack: d.index.Packs[pack], Class: r.class, Raise: r.raise, Pieces: make([]origin.Piece, len(r.flights))}
	for i, flight := range r.flights {
		c := &d.index.Chunks[flight.chunk]
		f.Pieces[i] = origin.Piece{Offset: int64(c.Offset), Size: int64(c.Stored)}
	}
	f.Deliver = func(piece int, stored []byte) error {
		if piece < 0 || piece >= len(r.flights) {
			return fault.New(fault.Internal, "piece %d of %d", piece, len(r.flights))
		}
		r.meter.came(len(stored))
		return d.deliver(r.flights[piece], stored)
	}
	r.meter.began = time.Now()
	err := d.cfg.Origins.Fetch(r.ctx, d.index.Algorithm, f)
	d.ended(r, err)
}

// ended settles what a run did not bring, and lets the next ones begin.
func (d *Device) ended(r *run, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.class == origin.Demand && r.open == 0 {
		d.line.took(&r.meter)
	}
	if err == nil {
		err = fault.New(fault.Internal, "the origins gave less than they say")
	}
	for _, f := range r.flights {
		if f.done {
			continue
		}
		err := fmt.Errorf("fetch chunk %s:%s: %w", d.index.Algorithm, d.index.Chunks[f.chunk].Sum, err)
		if d.ctx.Err() != nil {
			err = errClosed()
		} else {
			d.counters.note(err)
		}
		d.settle(f, err)
	}
	d.begun[r.class]--
	d.pump()
}

// deliver decodes and verifies a chunk that came, and keeps it. An error goes back to the origin that it came from.
func (d *Device) deliver(f *flight, stored []byte) error {
	d.counters.fetched.Add(int64(len(stored)))
	if d.landed(f) {
		return nil
	}
	// As many as there are processors, for the whole device: the memory is bounded, and the oldest are done first.
	buf := <-d.slots
	defer func() { d.slots <- buf }()
	plain, err := d.decode(buf, d.index.Chunks[f.chunk], stored)
	if err != nil {
		d.counters.corrupt.Add(1)
		d.counters.note(err)
		return err
	}
	if cap(plain) > cap(buf) {
		buf = plain
	}
	d.keep(f, plain, d.cfg.Verify)
	return nil
}

func (d *Device) landed(f *flight) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return f.done
}

func (d *Device) decode(buf []byte, c format.Chunk, stored []byte) ([]byte, error) {
	decoder, err := d.decoders.Get()
	if err != nil {
		return nil, err
	}
	defer d.decoders.Put(decoder)
	if d.cfg.Verify {
		return decoder.Chunk(buf, d.index.Algorithm, c, stored)
	}
	return decoder.ChunkUnverified(buf, d.index.Algorithm, c, stored)
}
