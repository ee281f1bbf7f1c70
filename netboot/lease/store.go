package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/durable"
)

const (
	suffix  = ".json"
	maxFile = 4 << 10
)

// Open reads the leases in the directory, which it makes. What cannot be read is told and left out; what lies in no pool any more
// is forgotten.
func Open(o Options) (*Table, []error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Table{o: o, byMAC: map[string]*Lease{}, byIP: map[netip.Addr]*Lease{}, fixed: map[netip.Addr]string{}, files: map[netip.Addr]string{}}
	for _, ip := range o.Reserved {
		t.fixed[ip] = ""
	}
	for mac, ip := range o.Static {
		t.fixed[ip] = mac
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, []error{fmt.Errorf("keep leases: %w", err)}
	}
	// what is written next must not be the first to find that the directory cannot be written
	probe := filepath.Join(o.Dir, "probe"+durable.TempSuffix) // removed below, as all that has this suffix
	if err := os.WriteFile(probe, nil, 0o644); err != nil {
		return nil, []error{fmt.Errorf("keep leases: %w", err)}
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, []error{fmt.Errorf("keep leases: %w", err)}
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(o.Dir, e.Name())
		if strings.HasSuffix(e.Name(), durable.TempSuffix) {
			if err := os.Remove(path); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		l, err := readLease(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("lease left out: %w", err))
			continue
		}
		t.adopt(l)
	}
	return t, errs
}

func readLease(path string) (*Lease, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%s is no lease", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var l Lease
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	mac, err := net.ParseMAC(l.MAC)
	if err != nil || mac.String() != l.MAC || fileName(l.MAC) != filepath.Base(path) || !l.IP.Is4() {
		return nil, fmt.Errorf("%s is the lease of nobody", path)
	}
	return &l, nil
}

// adopt takes over a lease of an earlier server. Of two for one address, of which a server died while it gave it on, the later counts.
func (t *Table) adopt(l *Lease) {
	inPool := slices.ContainsFunc(t.o.Pools, func(p Pool) bool { return p.contains(l.IP) })
	if _, fixed := t.fixed[l.IP]; fixed || !inPool {
		return
	}
	if _, static := t.o.Static[l.MAC]; static {
		return
	}
	if other := t.byIP[l.IP]; other != nil && other.Expires.After(l.Expires) {
		return
	}
	t.put(l)
	t.files[l.IP] = l.MAC
}

// write puts a lease on disk, and then removes the file of who had the address before.
func (t *Table) write(ctx context.Context, l *Lease) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := durable.WriteFile(ctx, filepath.Join(t.o.Dir, fileName(l.MAC)), append(data, '\n'), 0o644); err != nil {
		return err
	}
	before := t.files[l.IP]
	maps.DeleteFunc(t.files, func(_ netip.Addr, mac string) bool { return mac == l.MAC })
	t.files[l.IP] = l.MAC
	if before == "" || before == l.MAC {
		return nil
	}
	return durable.Remove(ctx, filepath.Join(t.o.Dir, fileName(before)))
}

func (t *Table) remove(ctx context.Context, mac string) error {
	maps.DeleteFunc(t.files, func(_ netip.Addr, m string) bool { return m == mac })
	return durable.Remove(context.WithoutCancel(ctx), filepath.Join(t.o.Dir, fileName(mac)))
}

func fileName(mac string) string { return strings.ReplaceAll(mac, ":", "-") + suffix }
