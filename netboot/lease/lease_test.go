package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	macA = "52:54:00:00:00:0a"
	macB = "52:54:00:00:00:0b"
	macC = "52:54:00:00:00:0c"
	macS = "52:54:00:00:00:05"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var subnet = netip.MustParsePrefix("10.1.0.0/24")

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func open(t *testing.T, dir, first, last string) (*Table, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	table, errs := Open(Options{
		Dir: dir, Pools: []Pool{{Subnet: subnet, Ranges: []Range{{ip(first), ip(last)}}}},
		Static: map[string]netip.Addr{macS: ip("10.1.0.5")}, Reserved: []netip.Addr{ip("10.1.0.1")}, Now: c.read,
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { table.Close() }) // a test may have closed it
	return table, c
}

// again opens the leases as the next server does.
func again(t *testing.T, table *Table) *Table {
	t.Helper()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	next, errs := Open(table.o)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(func() { next.Close() })
	return next
}

// take offers and commits, as a node does that takes what it gets.
func take(t *testing.T, table *Table, mac string) netip.Addr {
	t.Helper()
	a, err := table.Offer(mac, subnet, netip.Addr{})
	if err == nil {
		err = table.Commit(context.Background(), mac, subnet, a, time.Hour)
	}
	if err != nil {
		t.Fatalf("%s: %v", mac, err)
	}
	return a
}

func TestANodeKeepsItsAddress(t *testing.T) {
	dir := t.TempDir()
	table, _ := open(t, dir, "10.1.0.10", "10.1.0.50")
	a, b := take(t, table, macA), take(t, table, macB)
	if a == b {
		t.Fatalf("two nodes have %s", a)
	}
	if again := take(t, table, macA); again != a {
		t.Errorf("%s became %s", a, again)
	}
	table.j.lock.Close() // the next server, without a farewell of this one
	next, _ := open(t, dir, "10.1.0.10", "10.1.0.50")
	if got, ok := next.Of(macA); !ok || got != a {
		t.Errorf("after a restart %s is %s, %v", a, got, ok)
	}
	if who, ok := next.Who(b); !ok || who != macB {
		t.Errorf("after a restart %s is of %s, %v", b, who, ok)
	}
	if got := len(next.All()); got != 2 {
		t.Errorf("%d leases are left of 2", got)
	}
}

func TestStaticAndReservedAddressesAreNotGiven(t *testing.T) {
	table, _ := open(t, t.TempDir(), "10.1.0.1", "10.1.0.6")
	got := map[netip.Addr]bool{}
	for i := range 4 {
		got[take(t, table, fmt.Sprintf("52:54:00:00:01:%02x", i))] = true
	}
	if got[ip("10.1.0.1")] || got[ip("10.1.0.5")] || len(got) != 4 {
		t.Errorf("given were %v", got)
	}
	if _, err := table.Offer(macA, subnet, netip.Addr{}); !errors.Is(err, ErrDry) {
		t.Errorf("a dry pool says %v", err)
	}
	if a := take(t, table, macS); a != ip("10.1.0.5") {
		t.Errorf("the static node got %s", a)
	}
	if err := table.Commit(context.Background(), macS, subnet, ip("10.1.0.6"), time.Hour); !errors.Is(err, ErrTaken) {
		t.Errorf("the static node could take another address: %v", err)
	}
	if err := table.Commit(context.Background(), macA, subnet, ip("10.1.0.5"), time.Hour); !errors.Is(err, ErrTaken) {
		t.Errorf("a static address could be taken: %v", err)
	}
	if _, err := table.Offer(macS, netip.MustParsePrefix("10.2.0.0/24"), netip.Addr{}); !errors.Is(err, ErrTaken) {
		t.Errorf("the static node has an address in another subnet: %v", err)
	}
	if used, total := table.Count(table.o.Pools[0]); used != 4 || total != 4 {
		t.Errorf("%d of %d are used, want 4 of 4", used, total)
	}
}

func TestExpiredReleasedAndOffered(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	table, c := open(t, dir, "10.1.0.10", "10.1.0.11")
	a, b := take(t, table, macA), take(t, table, macB)
	if err := table.Release(ctx, macB, a); err != nil { // not its own
		t.Fatal(err)
	}
	if _, err := table.Offer(macC, subnet, a); !errors.Is(err, ErrDry) {
		t.Fatalf("a release by another gave an address free: %v", err)
	}
	if err := table.Release(ctx, macA, a); err != nil {
		t.Fatal(err)
	}
	if got, err := table.Offer(macA, subnet, netip.Addr{}); err != nil || got != a {
		t.Errorf("a released address is not remembered: %v, %v", got, err)
	}
	table.Forget(macA)
	if got := take(t, table, macC); got != a {
		t.Errorf("the released address was not given on, but %s", got)
	}
	table = again(t, table)
	if all := table.All(); len(all) != 2 || all[0].MAC != macC || all[1].MAC != macB {
		t.Errorf("the next server knows of %v", all)
	}
	c.now = c.now.Add(2 * time.Hour)
	if _, ok := table.Of(macB); ok {
		t.Error("an expired lease counts")
	}
	if got := take(t, table, macB); got != b {
		t.Errorf("after it expired %s became %s", b, got)
	}
}

func TestOffersAreHeldForAMoment(t *testing.T) {
	table, c := open(t, t.TempDir(), "10.1.0.10", "10.1.0.10")
	if _, err := table.Offer(macA, subnet, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Offer(macB, subnet, netip.Addr{}); !errors.Is(err, ErrDry) {
		t.Fatalf("an offered address was offered to another: %v", err)
	}
	c.now = c.now.Add(2 * offerTime)
	if _, err := table.Offer(macB, subnet, netip.Addr{}); err != nil {
		t.Errorf("an offer is held for ever: %v", err)
	}
}

func TestDeclinedAddressesRest(t *testing.T) {
	ctx := context.Background()
	table, c := open(t, t.TempDir(), "10.1.0.10", "10.1.0.11")
	a := take(t, table, macA)
	if err := table.Decline(ctx, macB, a); err != nil { // not its own: no effect
		t.Fatal(err)
	}
	if _, ok := table.Of(macA); !ok {
		t.Fatal("another node could decline an address")
	}
	if err := table.Decline(ctx, macA, a); err != nil {
		t.Fatal(err)
	}
	if got := take(t, table, macA); got == a {
		t.Error("a declined address was given again")
	}
	c.now = c.now.Add(declineTime + time.Second)
	if got := take(t, table, macB); got != a {
		t.Errorf("a declined address never comes back; given was %s", got)
	}
}

func TestDamagedLeasesAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte(`{"mac":"52:54:00:00:00:0a","ip":"10.1.0.10","expires":"2028-01-01T00:00:00Z"}
{"mac":"52:54:00:00:00:0b","ip":"10.1.0.10","expires":"2027-01-01T00:00:00Z"}
{"mac":"52:54:00:00:0
{"mac":"someone","ip":"10.1.0.11"}
{"mac":"52:54:00:00:00:0f","ip":"10.9.0.11","expires":"2028-01-01T00:00:00Z"}
{"mac":"52:54:00:00:00:11","ip":"10.1.0.12","expires":"2028-01-01T00:00:00Z"}
{"mac":"52:54:00:00:00:11","ip":"10.1.0.12","expires":"0001-01-01T00:00:00Z","gone":true}
{"mac":"52:54:00:00:00:12","ip":"10.1.0.13","expires":"2028-01-01T00:00:00Z"}
{"mac":"52:54:00:00:00:12","ip":"10.1.0.14","expi`), 0o644); err != nil {
		t.Fatal(err)
	}
	table, errs := Open(Options{Dir: dir, Pools: []Pool{{Subnet: subnet, Ranges: []Range{{ip("10.1.0.10"), ip("10.1.0.20")}}}},
		Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if table == nil || len(errs) != 2 {
		t.Fatalf("want two complaints: %v", errs)
	}
	defer table.Close()
	if all := table.All(); len(all) != 2 || all[0].MAC != macB || all[1].MAC != "52:54:00:00:00:12" || all[1].IP != ip("10.1.0.13") {
		t.Errorf("the leases came out as %v; of two for one address the later line counts, and half a line does not", all)
	}
	if data, err := os.ReadFile(filepath.Join(dir, fileName)); err != nil || bytes.Count(data, []byte("\n")) != 2 {
		t.Errorf("the file was not written anew: %v\n%s", err, data)
	}
}

func TestTwoServersCannotKeepTheirLeasesInOnePlace(t *testing.T) {
	table, _ := open(t, t.TempDir(), "10.1.0.10", "10.1.0.11")
	if second, errs := Open(table.o); second != nil || len(errs) != 1 || !strings.Contains(errs[0].Error(), "another server") {
		t.Errorf("%v, %v", second, errs)
	}
}

// Many ask at once, some twice, while the file is written anew again and again: each has one address, and the next server knows them all.
func TestManyLeasesAtOnce(t *testing.T) {
	table, _ := open(t, t.TempDir(), "10.1.0.10", "10.1.0.209")
	var syncs atomic.Int64
	table.j.limit = 20
	all := table.j.all
	table.j.all = func(gathered func()) [][]byte {
		syncs.Add(1)
		return all(gathered)
	}
	got := make([]netip.Addr, 400)
	var tasks sync.WaitGroup
	for i := range got {
		tasks.Go(func() { got[i] = take(t, table, fmt.Sprintf("52:54:00:00:02:%02x", i/2)) })
	}
	tasks.Wait()
	owner := map[netip.Addr]int{}
	for i, a := range got {
		if other, ok := owner[a]; ok && other != i/2 || got[i] != got[i^1] {
			t.Errorf("node %d has %s, as node %d; asking twice gave it %s", i/2, a, other, got[i^1])
		}
		owner[a] = i / 2
	}
	take(t, table, "52:54:00:00:02:00") // that many lines may have come at once
	if syncs.Load() == 0 {
		t.Error("the file was never written anew")
	}
	next := again(t, table)
	if list := next.All(); len(list) != 200 {
		t.Errorf("the next server knows of %d leases", len(list))
	}
	for i, a := range got {
		if b, ok := next.Of(fmt.Sprintf("52:54:00:00:02:%02x", i/2)); !ok || a != b {
			t.Errorf("the next server gives node %d %s, not %s", i/2, b, a)
		}
	}
}

func TestALeaseThatCannotBeWrittenIsNotGiven(t *testing.T) {
	table, _ := open(t, t.TempDir(), "10.1.0.10", "10.1.0.11")
	a := take(t, table, macA)
	f, err := os.Open(table.j.path) // for reading alone
	if err != nil {
		t.Fatal(err)
	}
	table.j.f, f = f, table.j.f
	if err := table.Commit(context.Background(), macB, subnet, ip("10.1.0.11"), time.Hour); err == nil {
		t.Error("it was given")
	}
	if b, ok := table.Of(macB); ok {
		t.Errorf("%s is known as its address", b)
	}
	if err := table.Commit(context.Background(), macA, subnet, a, 2*time.Hour); err == nil {
		t.Error("a lease could be renewed for longer than is on disk")
	}
	if b, ok := table.Of(macA); !ok || a != b {
		t.Errorf("what it had is lost: %s", b)
	}
	table.j.f.Close()
	table.j.f = f
	if b := take(t, table, macB); b != ip("10.1.0.11") {
		t.Errorf("later it was given %s", b)
	}
}

// Firmware, iPXE and the system ask one after the other: that is one line on disk, which says more than each of them was told.
func TestSoonRenewedIsNotWrittenAgain(t *testing.T) {
	table, c := open(t, t.TempDir(), "10.1.0.10", "10.1.0.11")
	take(t, table, macA)
	lines := table.j.lines
	for range 3 {
		c.now = c.now.Add(2 * time.Minute)
		take(t, table, macA)
	}
	if table.j.lines != lines {
		t.Errorf("%d lines were written", table.j.lines-lines)
	}
	told := c.now.Add(time.Hour)
	c.now = c.now.Add(2 * time.Minute)
	take(t, table, macA)
	if table.j.lines != lines+1 {
		t.Error("what is on disk ends before the lease")
	}
	if all := again(t, table).All(); len(all) != 1 || all[0].Expires.Before(told) {
		t.Errorf("the next server knows of %v, and the node has been told %s", all, told)
	}
}

func TestADryPoolCostsLittle(t *testing.T) {
	table, c := open(t, t.TempDir(), "10.1.0.10", "10.1.0.11")
	take(t, table, macA)
	b := take(t, table, macB)
	dry := func() bool {
		_, err := table.Offer(macC, subnet, netip.Addr{})
		return errors.Is(err, ErrDry)
	}
	first, second := dry(), dry()
	if !first || !second || len(table.dry) != 1 {
		t.Error("that it is dry is not remembered")
	}
	if err := table.Release(context.Background(), macB, b); err != nil {
		t.Fatal(err)
	}
	if dry() {
		t.Error("an address was given back, and it is still dry")
	}
	table.Forget(macC)
	take(t, table, macB)
	if !dry() {
		t.Error("it is not dry")
	}
	c.now = c.now.Add(2 * time.Hour)
	if dry() {
		t.Error("all leases have ended, and it is still dry")
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"mac":"52:54:00:00:00:0a","ip":"10.1.0.10","expires":"2028-01-01T00:00:00Z"}` + "\n{"))
	f.Add([]byte("\n\n\x00\n[]\n{\"mac\":\"52:54:00:00:00:0b\",\"ip\":\"::1\"}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		o := Options{Dir: dir, Pools: []Pool{{Subnet: subnet, Ranges: []Range{{ip("10.1.0.10"), ip("10.1.0.20")}}}}}
		first, errs := Open(o)
		if first == nil {
			t.Fatal(errs)
		}
		first.Close()
		second, errs := Open(o)
		if second == nil || len(errs) > 0 {
			t.Fatalf("what was written anew cannot be read: %v", errs)
		}
		defer second.Close()
		if a, b := first.All(), second.All(); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%v became %v", a, b)
		}
	})
}

func TestADirectoryThatCannotBeWrittenIsToldAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if table, errs := Open(Options{Dir: filepath.Join(file, "leases")}); table != nil || len(errs) == 0 {
		t.Errorf("%v, %v", table, errs)
	}
}
