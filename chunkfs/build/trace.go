package build

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
)

// maxSpool is the largest file that is kept aside when the source cannot give it again; larger ones stay in the order of the walk.
const maxSpool = 256 << 20

// traced keeps the files that a trace names until the others are done.
type traced struct {
	ranks map[string]int // by path
	kept  []kept
	spool *os.File // has no name; content of a source that is not Random
	end   int64
}

type kept struct {
	rank int
	item source.Item
}

func newTraced(t *format.Trace) *traced {
	k := &traced{ranks: map[string]int{}}
	if t == nil {
		return k
	}
	for _, quoted := range t.Paths {
		path, err := format.UnquotePath(quoted)
		if _, twice := k.ranks[path]; err == nil && !twice {
			k.ranks[path] = len(k.ranks)
		}
	}
	return k
}

// rank says where in the trace the file is, if it is one to be kept.
func (k *traced) rank(i source.Item, random bool) (int, bool) {
	rank, ok := k.ranks[i.Path]
	return rank, ok && (random || i.Node.Size <= maxSpool)
}

// keep keeps a file for later; its content too, when the source cannot give it then.
func (k *traced) keep(rank int, i source.Item, random bool) error {
	if !random {
		if err := k.write(&i); err != nil {
			return fmt.Errorf("%q: %w", i.Path, err)
		}
	}
	k.kept = append(k.kept, kept{rank, i})
	return nil
}

// write copies the content to the spool, and lets Open give it from there.
func (k *traced) write(i *source.Item) error {
	if k.spool == nil {
		f, err := os.CreateTemp("", "windlass-build-")
		if err != nil {
			return fmt.Errorf("keep what the trace names: %w", err)
		}
		k.spool = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("keep what the trace names: %w", err)
		}
	}
	from, err := i.Open()
	if err != nil {
		return err
	}
	n, err := io.Copy(io.NewOffsetWriter(k.spool, k.end), io.LimitReader(from, i.Node.Size))
	if err = errors.Join(err, from.Close()); err != nil {
		return err
	}
	if n != i.Node.Size {
		return shortContent(n, i.Node.Size, io.ErrUnexpectedEOF)
	}
	section := io.NewSectionReader(k.spool, k.end, n)
	i.Open = func() (source.Content, error) { return spooled{section}, nil }
	k.end += n
	return nil
}

// spooled is content from the spool; holes have become zeros there, which the scanner finds.
type spooled struct{ *io.SectionReader }

func (s spooled) NextData(off int64) (start, end int64, err error) { return off, s.Size(), nil }
func (s spooled) Close() error                                     { return nil }

// items gives what has been kept, in the order of the trace.
func (k *traced) items() []source.Item {
	slices.SortStableFunc(k.kept, func(a, b kept) int { return cmp.Compare(a.rank, b.rank) })
	items := make([]source.Item, len(k.kept))
	for i := range items {
		items[i] = k.kept[i].item
	}
	return items
}

func (k *traced) close() {
	if k.spool != nil {
		k.spool.Close()
	}
}
