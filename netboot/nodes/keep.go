package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/windlass-hpc/windlass/internal/durable"
)

// maxFile bounds what is read back: some hundred thousand nodes.
const maxFile = 256 << 20

// fileName is where all is written now and then.
const fileName = "nodes.json"

// keeper writes down what is seen: all of it now and then, and in between what has come since. It is for looking at, so nothing waits for
// the disk: a server that is killed loses nothing, a machine that loses its power the last seconds.
type keeper struct {
	dir string // empty keeps nothing
	// mu is taken before the registry's.
	mu sync.Mutex
	f  *os.File // of what has come since
}

// kept is what is written now and then.
type kept struct {
	Seq   uint64   `json:"seq"` // of the last line that is in it
	Nodes []Status `json:"nodes"`
}

// seenLine is one thing that was seen, as it is written.
type seenLine struct {
	Seq  uint64 `json:"seq"`
	When int64  `json:"when"` // ns since 1970
	Seen Seen   `json:"seen"`
}

// Keep takes over what an earlier server knew, from files in a directory, and writes down there what is seen from now on. What is damaged is
// told, and costs what it said. Names and groups stay those of the configuration; who is listed no more is known as one that is not.
func (r *Registry) Keep(dir string) []error {
	var errs []error
	before, err := readKept(filepath.Join(dir, fileName))
	if err != nil {
		errs = append(errs, err)
	}
	r.mu.Lock()
	for _, s := range before.Nodes {
		r.restore(s)
	}
	r.seq = before.Seq
	r.mu.Unlock()
	old, err := since(dir)
	if err != nil {
		errs = append(errs, err)
	}
	for _, path := range old {
		if err := r.replay(path); err != nil {
			errs = append(errs, err)
		}
	}
	r.keep.mu.Lock()
	defer r.keep.mu.Unlock()
	r.keep.dir = dir
	r.mu.Lock()
	r.keeping, r.dirty = true, r.dirty || len(old) > 0
	r.mu.Unlock()
	return errs
}

func readKept(path string) (kept, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		return kept{}, fmt.Errorf("%s is left out: %w", path, err)
	}
	return k, nil
}

func readBounded(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && st.Size() > maxFile {
		err = fmt.Errorf("it has %d bytes", st.Size())
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func (r *Registry) restore(s Status) {
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || mac.String() != s.MAC {
		return
	}
	n := r.find(Seen{MAC: s.MAC})
	s.Listed, s.Name, s.Group = n.s.Listed, n.s.Name, n.s.Group
	if s.Stages == nil {
		s.Stages = []Entry{}
	}
	addr, err := netip.ParseAddr(s.IP)
	s.IP = n.s.IP
	n.s = s
	if err == nil && !n.addr.IsValid() && r.byAddr[addr] == nil {
		r.bind(n, addr)
	}
}

// Flush writes down what has been seen until now.
func (r *Registry) Flush() error {
	r.keep.mu.Lock()
	defer r.keep.mu.Unlock()
	return r.flush()
}

// flush is Flush for who holds keep.mu.
func (r *Registry) flush() error {
	r.mu.Lock()
	data := r.pending
	r.pending = nil
	seq := r.seq
	r.mu.Unlock()
	if len(data) == 0 || r.keep.dir == "" {
		return nil
	}
	if r.keep.f == nil {
		path := filepath.Join(r.keep.dir, fmt.Sprintf("nodes.%020d.jsonl", seq))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("keep how far the nodes have come: %w", err)
		}
		r.keep.f = f
	}
	if _, err := r.keep.f.Write(data); err != nil {
		// half a line may be there, from which the next one is not to go on; what is lost comes with all
		r.keep.f.Close()
		r.keep.f = nil
		return fmt.Errorf("keep how far the nodes have come: %w", err)
	}
	return nil
}

// Save writes down how far all nodes have come, when that changed.
func (r *Registry) Save(ctx context.Context) error {
	r.keep.mu.Lock()
	lost := r.flush() // which costs nothing when all is written
	if r.keep.f != nil {
		lost = errors.Join(lost, r.keep.f.Close())
		r.keep.f = nil
	}
	dir := r.keep.dir
	r.mu.Lock()
	changed := r.dirty
	var k kept
	if changed {
		k = kept{Seq: r.seq, Nodes: r.copy()}
	}
	r.dirty = false
	r.mu.Unlock()
	old, listErr := since(dir)
	r.keep.mu.Unlock()
	if !changed || dir == "" {
		return errors.Join(lost, listErr)
	}
	data, err := json.Marshal(k)
	if err == nil {
		err = durable.WriteFile(ctx, filepath.Join(dir, fileName), append(data, '\n'), 0o644)
	}
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return fmt.Errorf("keep how far the nodes have come: %w", err)
	}
	for _, path := range old {
		listErr = errors.Join(listErr, os.Remove(path))
	}
	return listErr
}

// since gives the files of what came after all was written, the oldest first.
func since(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "nodes.*.jsonl"))
	slices.Sort(paths)
	return paths, err
}
