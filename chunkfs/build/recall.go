package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/durable"
)

// recall remembers from one build to the next what files were made of, so that those that have not changed since need not be read. It
// knows a file by its source.Item.Version. What it remembers is digests, so it is of use only while the store has their chunks.
//
// It is a cache: a file of it that is missing, damaged or of other options is as good as an empty one.
type recall struct {
	path    string // empty: nothing is remembered
	options format.Sum
	old     map[format.Sum]memory

	mu  sync.Mutex
	now map[format.Sum]memory
}

// memory is of a small file, of a large one, or of a group of small ones.
type memory struct {
	kind   memoryKind
	age    byte // builds since it was of use last
	parts  []part
	length int64 // of a group's chunk
}

type memoryKind byte

const (
	smallFile memoryKind = 1 // one part: its digest
	largeFile memoryKind = 2 // its pieces
	groupOf   memoryKind = 3 // one part: its chunk
)

// part is a piece, without content: zeros are those that have no sum.
type part struct {
	size int64
	sum  format.Sum
}

// maxAge is after how many builds what was of no use is forgotten, so that a few trees can be built by turns.
const maxAge = 8

// recallMagic begins the file; its last byte is the version.
const recallMagic = "WLRECALL\x01"

// maxRecall bounds what is read of a file that is not what it should be.
const maxRecall = 1 << 30

func openRecall(o Options) *recall {
	r := &recall{path: o.Recall, now: map[format.Sum]memory{}}
	if r.path == "" {
		return r
	}
	r.options = o.Algorithm.Sum(fmt.Append(nil, format.Version, o.Algorithm, o.MinChunk, o.AvgChunk, o.MaxChunk, o.Group, o.Inline))
	if st, err := os.Stat(r.path); err == nil && st.Mode().IsRegular() && st.Size() <= maxRecall {
		if b, err := os.ReadFile(r.path); err == nil {
			r.old = decodeRecall(b, r.options)
		}
	}
	return r
}

// key names a file for the recall; zero when it is not to be remembered.
func (r *recall) key(i source.Item) (key format.Sum) {
	if r.path == "" || i.Version == "" {
		return key
	}
	return format.BLAKE3.Sum(binary.LittleEndian.AppendUint64([]byte(i.Version), uint64(i.Node.Size)))
}

// groupKey names a group by its members.
func groupKey(members []member) format.Sum {
	var b []byte
	for _, m := range members {
		b = binary.LittleEndian.AppendUint64(append(b, m.file.sum[:]...), uint64(m.size))
	}
	return format.BLAKE3.Sum(b)
}

// find gives what is remembered under the key.
func (r *recall) find(key format.Sum, kind memoryKind) ([]part, int64, bool) {
	m, ok := r.old[key]
	if !ok || m.kind != kind {
		return nil, 0, false
	}
	return m.parts, m.length, true
}

// note remembers for the next build.
func (r *recall) note(key format.Sum, m memory) {
	if r.path == "" || key == (format.Sum{}) {
		return
	}
	r.mu.Lock()
	r.now[key] = m
	r.mu.Unlock()
}

// save writes the file, for this build was a success.
func (r *recall) save(ctx context.Context) error {
	if r.path == "" {
		return nil
	}
	for key, m := range r.old {
		if m.age++; m.age < maxAge {
			if _, again := r.now[key]; !again {
				r.now[key] = m
			}
		}
	}
	if err := durable.Replace(ctx, r.path, r.encode(), 0o600); err != nil {
		return fmt.Errorf("remember what the files are made of: %w", err)
	}
	return nil
}

func (r *recall) encode() []byte {
	b := append([]byte(recallMagic), r.options[:]...)
	for key, m := range r.now {
		b = append(append(b, key[:]...), byte(m.kind), m.age)
		b = binary.AppendUvarint(b, uint64(m.length))
		b = binary.AppendUvarint(b, uint64(len(m.parts)))
		for _, p := range m.parts {
			b = append(binary.AppendUvarint(b, uint64(p.size)), p.sum[:]...)
		}
	}
	sum := format.BLAKE3.Sum(b)
	return append(b, sum[:]...)
}

// errRecall is for a file that is not one of ours.
var errRecall = errors.New("not a recall file")

func decodeRecall(b []byte, options format.Sum) map[format.Sum]memory {
	n := len(b) - len(format.Sum{})
	if n < 0 || format.BLAKE3.Sum(b[:n]) != format.Sum(b[n:]) {
		return nil
	}
	rest, found := bytes.CutPrefix(b[:n], append([]byte(recallMagic), options[:]...))
	if !found {
		return nil
	}
	all := map[format.Sum]memory{}
	for len(rest) > 0 {
		key, m, after, err := decodeMemory(rest)
		if err != nil {
			return nil
		}
		all[key] = m
		rest = after
	}
	return all
}

func decodeMemory(b []byte) (key format.Sum, m memory, rest []byte, err error) {
	if len(b) < len(key)+2 {
		return key, m, nil, errRecall
	}
	b = b[copy(key[:], b):]
	m.kind, m.age = memoryKind(b[0]), b[1]
	length, b, err := decodeSize(b[2:])
	if err != nil {
		return key, m, nil, err
	}
	count, b, err := decodeSize(b)
	if err != nil || count > int64(len(b)/len(key)) {
		return key, m, nil, errRecall
	}
	m.length, m.parts = length, make([]part, count)
	for i := range m.parts {
		p := &m.parts[i]
		if p.size, b, err = decodeSize(b); err != nil || len(b) < len(p.sum) {
			return key, m, nil, errRecall
		}
		b = b[copy(p.sum[:], b):]
	}
	return key, m, b, nil
}

func decodeSize(b []byte) (int64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > 1<<62 {
		return 0, nil, errRecall
	}
	return int64(v), b[n:], nil
}
