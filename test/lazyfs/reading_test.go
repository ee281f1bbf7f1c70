package lazyfs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"
)

// reading is the process that readers are.
type reading struct {
	dir string
	img image
	out *json.Encoder
	wg  sync.WaitGroup

	mu    sync.Mutex // of all below, and of out
	said  report
	begun []time.Time // by reader: the read that it is at
	mark  time.Time
	over  bool
}

// readFor is the life of that process. It obeys what comes on its standard input.
func readFor(dir, tree string) error {
	r := &reading{dir: dir, out: json.NewEncoder(os.Stdout), begun: make([]time.Time, len(ways()))}
	if err := r.img.load(tree); err != nil {
		return err
	}
	for n, how := range ways() {
		r.wg.Go(func() { r.each(n, how) })
	}
	words := bufio.NewScanner(os.Stdin)
	for words.Scan() {
		switch words.Text() {
		case "mark":
			r.mu.Lock()
			r.mark, r.said.Longest, r.said.Overdue = time.Now(), 0, 0
			r.mu.Unlock()
		case "end":
			r.end()
			r.wg.Wait()
		}
		r.tell()
	}
	r.end()
	r.wg.Wait()
	return words.Err()
}

func (r *reading) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

func (r *reading) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said
	for _, began := range r.begun {
		if !began.IsZero() && began.Before(r.mark) {
			s.Waiting++
		}
	}
	_ = r.out.Encode(s)
}

// load takes the right bytes from the tree.
func (i *image) load(tree string) error {
	return filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		rel, err := filepath.Rel(tree, path)
		i.files = append(i.files, file{rel, b})
		return err
	})
}

// each reads until it is time to end, or until something is wrong.
func (r *reading) each(n int, how way) {
	debug.SetPanicOnFault(true)
	random := rand.New(rand.NewPCG(uint64(n), uint64(time.Now().UnixNano())))
	buf := make([]byte, 300_000)
	for r.begin(n) {
		f, off, size := r.img.pick(random, len(buf))
		err := one(filepath.Join(r.dir, f.path), how, buf[:size], off)
		if err == nil && !bytes.Equal(buf[:size], f.data[off:off+int64(size)]) {
			err = fmt.Errorf("wrong bytes")
		}
		r.did(n, size)
		if err != nil {
			r.mu.Lock()
			_ = r.out.Encode(report{Error: fmt.Sprintf("%s/%s: %s of %d bytes at %d: %v", r.dir, f.path, how.name, size, off, err)})
			r.mu.Unlock()
			return
		}
	}
}

// pick gives a part of a file: small files and large ones, small parts and large ones, aligned to nothing.
func (i *image) pick(r *rand.Rand, most int) (f file, off int64, size int) {
	f = i.files[r.IntN(len(i.files))]
	if big := i.files[r.IntN(len(i.files))]; len(big.data) > len(f.data) {
		f = big
	}
	if r.IntN(2) == 0 {
		most = 5000
	}
	off = r.Int64N(int64(len(f.data)))
	return f, off, min(1+r.IntN(most), len(f.data)-int(off))
}

func (r *reading) begin(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[n] = time.Now()
	return !r.over
}

// did keeps how long a read took.
func (r *reading) did(n, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, began := time.Now(), r.begun[n]
	r.begun[n] = time.Time{}
	r.said.Reads++
	r.said.Bytes += int64(size)
	r.said.Longest = max(r.said.Longest, now.Sub(began))
	if began.Before(r.mark) {
		r.said.Overdue = max(r.said.Overdue, now.Sub(r.mark))
	}
}
