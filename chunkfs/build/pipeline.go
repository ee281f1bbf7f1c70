package build

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// budget bounds the bytes of files that are between reading and their place, unless the options make chunks so large that a few of them
// are more.
const budget = 32 << 20

// pipeline is the walk, and what it starts the three stages with.
type pipeline struct {
	ctx      context.Context //nolint:containedctx // it is one operation
	o        Options
	src      source.Source
	group    *errgroup.Group
	contents *contents
	readers  *readers
	recall   *recall
	reading  sync.WaitGroup
	files    chan step
	memory   *semaphore.Weighted
	total    int64 // of memory
	depth    int   // pieces of a large file in flight

	tree  *tree
	seen  map[*erofs.Node]bool // files whose content is on its way
	trace *traced
	meter meter
}

// built is what the stages leave behind.
type built struct {
	root   *erofs.Node
	placer *placer
	recall *recall
}

// readContent reads the whole source, and stores the chunks that the store has not.
func readContent(ctx context.Context, src source.Source, txn *store.Txn, known *store.Known, o Options) (*built, error) {
	group, ctx := errgroup.WithContext(ctx)
	p := newPipeline(ctx, group, src, known, o)
	defer p.trace.close()
	laid := make(chan step, cap(p.files))
	lay := &layer{
		o: o, contents: p.contents, in: p.files, out: laid, release: p.release, smalls: map[format.Sum]*place{},
		readers: p.readers, recall: p.recall,
	}
	put := &placer{
		in: laid, packs: newPacks(txn, o), release: p.release, told: p.meter.stored,
		larges: map[format.Digest]*place{}, buffers: &p.contents.buffers, alg: o.Algorithm,
	}
	defer put.packs.abandon()
	for range o.Parallel {
		group.Go(func() error { return p.contents.compress(ctx, o.Codec, o.Level) })
	}
	group.Go(func() error { return put.run(ctx) })
	group.Go(func() error {
		if err := lay.run(ctx); err != nil {
			return err
		}
		close(p.contents.todo) // the readers are done, and nobody else compresses
		return nil
	})
	group.Go(p.walk)
	if err := group.Wait(); err != nil {
		return nil, err
	}
	p.meter.tell(true)
	for _, list := range [][]placed{lay.placed, put.placed} {
		for _, f := range list {
			f.node.Extents = f.place.extents
		}
	}
	return &built{root: p.tree.finish(), placer: put, recall: p.recall}, nil
}

func newPipeline(ctx context.Context, group *errgroup.Group, src source.Source, known *store.Known, o Options) *pipeline {
	p := &pipeline{
		ctx: ctx, o: o, src: src, group: group, contents: newContents(known, o), files: make(chan step, 16*o.Parallel),
		depth: min(max(budget/8/o.MaxChunk, 4), 64), tree: newTree(), seen: map[*erofs.Node]bool{}, trace: newTraced(o.Trace),
		meter: meter{src: src, progress: o.Progress},
	}
	p.recall = openRecall(o)
	p.readers = &readers{contents: p.contents, recall: p.recall, cdc: o.cdc()}
	p.total = max(budget, int64(2*o.Parallel)*p.largest())
	p.memory = semaphore.NewWeighted(p.total)
	return p
}

// walk is the goroutine that visits the source.
func (p *pipeline) walk() error {
	if err := p.src.Walk(p.ctx, p.visit); err != nil {
		return err
	}
	if err := p.traced(); err != nil {
		return err
	}
	p.reading.Wait()
	close(p.files)
	return context.Cause(p.ctx)
}

func (p *pipeline) visit(i source.Item) error {
	if err := p.tree.put(i.Path, i.Node); err != nil {
		return err
	}
	if i.Node.Mode&unix.S_IFMT != unix.S_IFREG || i.Node.Size == 0 || p.seen[i.Node] {
		return nil
	}
	if i.Open == nil || i.Node.Size < 0 || i.Node.Size > math.MaxInt64-format.BlockSize {
		return fault.New(fault.Corrupt, "%q: the source has no content for a file of %d bytes", i.Path, i.Node.Size)
	}
	p.seen[i.Node] = true
	if rank, ok := p.trace.rank(i, p.src.Random()); ok {
		return p.trace.keep(rank, i, p.src.Random())
	}
	return p.file(i, p.src.Random())
}

// file lets a file be read: by a goroutine of its own when its turn need not be waited for. The memory is taken in the order of the walk,
// so the file that the stages wait for always has it.
func (p *pipeline) file(i source.Item, concurrently bool) error {
	f := &file{path: i.Path, node: i.Node, open: i.Open}
	if p.src.Random() && i.Node.Size > int64(p.o.Inline) {
		f.key = p.recall.key(i)
	}
	if i.Node.Size <= int64(max(p.o.Group, p.o.Inline)) {
		f.read = make(chan struct{})
		f.weight = i.Node.Size
	} else {
		f.pieces = make(chan piece, p.depth)
		f.weight = min(i.Node.Size, int64(p.depth*p.o.MaxChunk)) + int64(4*p.o.MaxChunk)
	}
	f.weight = max(f.weight, p.total/int64(16*p.o.Parallel)) // so many files are open at once at most
	known := f.key != (format.Sum{}) && p.readers.remember(f)
	if known {
		f.weight = 0
	}
	if err := p.memory.Acquire(p.ctx, f.weight); err != nil {
		return context.Cause(p.ctx)
	}
	select {
	case p.files <- step{file: f}:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	if known {
		return nil
	}
	if !concurrently {
		return p.readers.do(p.ctx, f)
	}
	p.reading.Add(1)
	p.group.Go(func() error {
		defer p.reading.Done()
		return p.readers.do(p.ctx, f)
	})
	return nil
}

// largest is the most memory that one file takes.
func (p *pipeline) largest() int64 { return int64((p.depth + 4) * p.o.MaxChunk) }

// release is for a file that has been placed.
func (p *pipeline) release(f *file) {
	p.memory.Release(f.weight)
	p.meter.file(f.node.Size)
}

// traced reads the files that the trace names, when all others have been placed.
func (p *pipeline) traced() error {
	items := p.trace.items()
	if len(items) == 0 {
		return nil
	}
	b := &barrier{passed: make(chan struct{})}
	select {
	case p.files <- step{barrier: b}:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	select {
	case <-b.passed:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	p.contents.reuseNothing()
	for _, i := range items {
		if err := p.file(i, true); err != nil {
			return fmt.Errorf("lay out by the trace: %w", err)
		}
	}
	return nil
}

// tellEvery is the least time between two words of progress.
const tellEvery = 100 * time.Millisecond

// meter counts what has been done, and tells of it.
type meter struct {
	src      source.Source
	progress func(Progress)

	mu   sync.Mutex
	now  Progress
	told time.Time
}

func (m *meter) file(size int64) {
	m.mu.Lock()
	m.now.Files++
	m.now.Plain += size
	m.mu.Unlock()
	m.tell(false)
}

func (m *meter) stored(n int64) {
	m.mu.Lock()
	m.now.New += n
	m.mu.Unlock()
	m.tell(false)
}

func (m *meter) tell(always bool) {
	if m.progress == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); always || now.Sub(m.told) >= tellEvery {
		m.told = now
		m.now.Read, m.now.Total = m.src.Done(), m.src.Total()
		m.progress(m.now)
	}
}
