package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	// maxFile bounds what is read back: some million lines.
	maxFile = 256 << 20
	// maxDamage bounds the lines that cannot be read and are told of, one by one.
	maxDamage = 10
)

// Open reads the leases in the directory, which it makes. What cannot be read is told and left out; what lies in no pool any more
// is forgotten. The Table is nil when leases cannot be kept there. Two servers cannot keep theirs in one directory.
func Open(o Options) (*Table, []error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Table{o: o, byMAC: map[string]*Lease{}, byIP: map[netip.Addr]*Lease{}, fixed: map[netip.Addr]string{}, dry: map[netip.Prefix]time.Time{}}
	for _, ip := range o.Reserved {
		t.fixed[ip] = ""
	}
	for mac, ip := range o.Static {
		t.fixed[ip] = mac
	}
	var err error
	if t.j, err = openJournal(o.Dir); err != nil {
		return nil, []error{fmt.Errorf("keep leases: %w", err)}
	}
	t.j.all = t.lines
	errs, whole, err := t.read()
	if err == nil {
		err = t.j.rewrite() // what is written next must not be the first to find that nothing can be
	}
	if err != nil && t.j.f == nil && t.j.goOn(whole) == nil { // a full disk: listed nodes need none
		errs, err = append(errs, fmt.Errorf("leases can be read, but not be written: %w", err)), nil
	}
	if err != nil {
		return nil, append(errs, fmt.Errorf("keep leases: %w", errors.Join(err, t.j.close())))
	}
	return t, errs
}

// Failing gives why leases can or could not be written lately; nil when they can be, as far as is known.
func (t *Table) Failing() error { return t.j.failing() }

// Mend tries again to write what could not be written. It is nil when nothing is amiss any more.
func (t *Table) Mend() error { return t.j.mend() }

// Close ends the keeping of leases.
func (t *Table) Close() error { return t.j.close() }

// read takes over what an earlier server wrote. The last line may be half of one, of which no node was told.
func (t *Table) read() (damage []error, size int64, err error) {
	st, err := os.Stat(t.j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err == nil && (!st.Mode().IsRegular() || st.Size() > maxFile) {
		err = fmt.Errorf("%s is no file of leases", t.j.path)
	}
	if err != nil {
		return nil, 0, err
	}
	data, err := os.ReadFile(t.j.path)
	if err != nil {
		return nil, 0, err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	bad := 0
	for line := range bytes.Lines(whole) {
		l, err := parseLease(line)
		if err == nil {
			t.adopt(l)
		} else if bad++; bad <= maxDamage {
			damage = append(damage, fmt.Errorf("%s: lease left out: %w", t.j.path, err))
		}
	}
	if bad > maxDamage {
		damage = append(damage, fmt.Errorf("%s: %d lines are damaged in all", t.j.path, bad))
	}
	return damage, int64(len(whole)), nil
}

// parseLease reads a line.
func parseLease(line []byte) (*Lease, error) {
	var l Lease
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, fmt.Errorf("%.60q: %w", line, err)
	}
	mac, err := net.ParseMAC(l.MAC)
	if err != nil || mac.String() != l.MAC || !l.IP.Is4() {
		return nil, fmt.Errorf("%.60q is the lease of nobody", line)
	}
	l.until = l.Expires
	l.synced = true
	return &l, nil
}

// adopt takes over a line. Later ones count more.
func (t *Table) adopt(l *Lease) {
	if old := t.byMAC[l.MAC]; old != nil {
		t.drop(old)
	}
	inPool := slices.ContainsFunc(t.o.Pools, func(p Pool) bool { return p.contains(l.IP) })
	_, fixed := t.fixed[l.IP]
	_, static := t.o.Static[l.MAC]
	if !l.Gone && inPool && !fixed && !static {
		t.put(l)
	}
}

// lines gives what the file has to hold, and calls gathered while nothing can be added.
func (t *Table) lines(gathered func()) [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	gathered()
	var all [][]byte
	for _, l := range t.byMAC {
		if l.kept() {
			all = append(all, l.line())
		}
	}
	return all
}

// kept reports whether a lease is one to be written: others are remembered for a moment only.
func (l *Lease) kept() bool { return !l.Offered && !l.Declined && !l.Static }

func (l *Lease) line() []byte {
	line, err := json.Marshal(struct {
		MAC     string     `json:"mac"`
		IP      netip.Addr `json:"ip"`
		Expires time.Time  `json:"expires"`
		Gone    bool       `json:"gone,omitempty"`
	}{l.MAC, l.IP, l.until, l.Gone})
	if err != nil {
		panic(err) // texts, a time of this century and a bool
	}
	return line
}
