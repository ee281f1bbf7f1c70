package lease

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	return table, c
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
	// the next server, without a farewell of this one
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
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("a lease that was given on is still on disk: %v", entries)
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
	for name, text := range map[string]string{
		"52-54-00-00-00-0a.json":     `{"mac":"52:54:00:00:00:0a","ip":"10.1.0.10","expires":"2027-01-01T00:00:00Z"}`,
		"52-54-00-00-00-0b.json":     `{"mac":"52:54:00:00:00:0b","ip":"10.1.0.10","expires":"2028-01-01T00:00:00Z"}`,
		"52-54-00-00-00-0c.json":     `{"mac":"52:54:00:00:0`,
		"52-54-00-00-00-0d.json":     `{"mac":"52:54:00:00:00:0e","ip":"10.1.0.11"}`,
		"52-54-00-00-00-0f.json":     `{"mac":"52:54:00:00:00:0f","ip":"10.9.0.11","expires":"2028-01-01T00:00:00Z"}`,
		"52-54-00-00-00-10.json.tmp": `{`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	table, errs := Open(Options{Dir: dir, Pools: []Pool{{Subnet: subnet, Ranges: []Range{{ip("10.1.0.10"), ip("10.1.0.20")}}}},
		Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }})
	if table == nil || len(errs) != 2 {
		t.Fatalf("want two complaints: %v", errs)
	}
	if all := table.All(); len(all) != 1 || all[0].MAC != macB {
		t.Errorf("the leases came out as %v; of two for one address the later counts", all)
	}
	if _, err := os.Stat(filepath.Join(dir, "52-54-00-00-00-10.json.tmp")); err == nil {
		t.Error("what was half written is still there")
	}
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
