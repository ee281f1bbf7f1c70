package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// A lease of another boot, which may be of another node on a shared file system whose locks we do not see, is taken for alive as long as
// its file is touched.
const (
	leaseBeat = time.Minute
	leaseStop = time.Hour
)

// owner is the first line of a lease: whose it is. The rest are lines of a word, `blob` or `image`, and a digest.
type owner struct {
	Host string    `json:"host"`
	Boot string    `json:"boot"`
	PID  int       `json:"pid"`
	Time time.Time `json:"time"`
}

// lease is a file that says what its Txn holds. It is locked as long as the Txn goes on, however that ends.
type lease struct {
	name string // in leases/
	f    *os.File
	stop chan struct{}

	mu   sync.Mutex // of the file's end, and of temps
	n    int
	done bool
}

const leasePrefix = "lease-"

// newLease is called under the shared lock: GC never sees a lease that is not locked yet.
func (s *Store) newLease() (*lease, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	l := &lease{name: leasePrefix + hex.EncodeToString(id[:]), stop: make(chan struct{})}
	f, err := os.OpenFile(s.path(leaseDir+"/"+l.name), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l.f = f
	if err := l.begin(); err != nil {
		f.Close()
		_ = os.Remove(f.Name())
		return nil, err
	}
	go l.beat()
	return l, nil
}

func (l *lease) begin() error {
	if err := tryFlock(l.f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	host, _ := os.Hostname()
	line, err := json.Marshal(owner{Host: host, Boot: bootID(), PID: os.Getpid(), Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	_, err = l.f.Write(append(line, '\n'))
	return err
}

func (l *lease) beat() {
	tick := time.NewTicker(leaseBeat)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			_ = os.Chtimes(l.f.Name(), now, now)
		case <-l.stop:
			return
		}
	}
}

// add writes down that the lease holds something. It is called under the shared lock.
func (l *lease) add(word string, d format.Digest) error {
	_, err := l.f.WriteString(word + " " + d.String() + "\n")
	return err
}

// temp makes a file for what is not finished. GC removes it with the lease.
func (l *lease) temp() (*os.File, error) {
	l.mu.Lock()
	l.n++
	name := fmt.Sprintf("%s.%d%s", l.f.Name(), l.n, temporary)
	l.mu.Unlock()
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// end gives up the lease. Whatever of it cannot be removed is left to GC.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return
	}
	l.done = true
	close(l.stop)
	_ = os.Remove(l.f.Name())
	l.f.Close()
}

// held is what a lease says.
type held struct {
	alive  bool
	images []format.Digest
	blobs  []format.Digest
}

// readLease reads somebody's lease, under the exclusive lock. A line that is cut off is of an owner that died while it wrote.
func (s *Store) readLease(name string) (held, error) {
	f, err := os.OpenFile(s.path(leaseDir+"/"+name), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // it ended
		return held{alive: true}, nil
	}
	if err != nil {
		return held{}, err
	}
	defer f.Close()
	var h held
	err = tryFlock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return held{}, err
	}
	st, serr := f.Stat()
	if serr != nil {
		return held{}, serr
	}
	lines := bufio.NewScanner(f)
	lines.Scan()
	var who owner
	_ = json.Unmarshal(lines.Bytes(), &who)
	h.alive = err != nil || who.Boot != "" && who.Boot != bootID() && time.Since(st.ModTime()) < leaseStop
	for lines.Scan() {
		word, digest, _ := strings.Cut(lines.Text(), " ")
		d, err := format.ParseDigest(digest)
		switch {
		case err != nil:
		case word == "image":
			h.images = append(h.images, d)
		case word == "blob":
			h.blobs = append(h.blobs, d)
		}
	}
	return h, lines.Err()
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(b))
}

// Begin takes a lease: what the transaction writes, reuses or reads by Known is not collected until End.
func (s *Store) Begin(ctx context.Context) (*Txn, error) {
	t := &Txn{store: s}
	err := s.locked(ctx, shared, func() (err error) {
		t.lease, err = s.newLease()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin to change the store %s: %w", s.dir, err)
	}
	return t, nil
}
