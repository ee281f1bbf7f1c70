package lease

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// When a new file has its name and the directory cannot be synced, its lines are what the next server reads: who was told no must not be in it,
// and who is in it is told yes.
func TestADirectoryThatCannotBeSynced(t *testing.T) {
	table, _ := open(t, t.TempDir(), "10.1.0.10", "10.1.0.12")
	a := take(t, table, macA)
	table.j.limit = 0 // the next lease has the file written anew
	broken := errors.New("I/O error")
	works := table.j.syncDir
	table.j.syncDir = func(context.Context, string) error { return broken }
	b, err := table.Offer(macB, subnet, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	given := table.Commit(context.Background(), macB, subnet, b, time.Hour) == nil
	_, known := table.Of(macB)
	data, err := os.ReadFile(table.j.path)
	if err != nil {
		t.Fatal(err)
	}
	written := bytes.Contains(data, []byte(macB))
	if given != written || known != written {
		t.Errorf("the lease was given: %v, is known: %v, and is in the file: %v", given, known, written)
	}
	if err := table.Failing(); !errors.Is(err, broken) {
		t.Errorf("that the directory cannot be synced is not told: %v", err)
	}
	if err := table.Mend(); !errors.Is(err, broken) {
		t.Errorf("mended with %v", err)
	}
	table.j.syncDir = works
	if err := errors.Join(table.Mend(), table.Failing()); err != nil {
		t.Error(err)
	}
	next := again(t, table)
	if got, ok := next.Of(macA); !ok || got != a {
		t.Errorf("the next server gives A %s, not %s", got, a)
	}
	if got, ok := next.Of(macB); !ok || got != b {
		t.Errorf("the next server gives B %s, not %s", got, b)
	}
}

// On a disk that is full a server starts all the same, knows the leases, and writes again when there is room.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system (as root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	leases := filepath.Join(dir, "leases")
	for _, before := range []bool{false, true} { // without leases of an earlier server, and with them
		table, _ := open(t, leases, "10.1.0.10", "10.1.0.12")
		if before {
			take(t, table, macA)
		}
		o := table.o
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		if !before {
			if err := os.Remove(filepath.Join(leases, fileName)); err != nil {
				t.Fatal(err)
			}
		}
		full := fill(t, filepath.Join(dir, "full"))
		table, errs := Open(o)
		if table == nil {
			t.Fatalf("the server does not start: %v", errs)
		}
		defer table.Close()
		if before && (len(errs) == 0 || table.Failing() == nil || table.Mend() == nil) { // an empty file takes no room
			t.Errorf("that the disk is full is not told: %v, %v", errs, table.Failing())
		}
		if _, ok := table.Of(macA); ok != before {
			t.Errorf("the lease of the earlier server is known: %v", ok)
		}
		if err := table.Commit(context.Background(), macS, subnet, ip("10.1.0.5"), time.Hour); err != nil {
			t.Errorf("a listed node gets no address: %v", err)
		}
		if before { // in a page that the file has already there is room for one more
			continue
		}
		if err := table.Commit(context.Background(), macB, subnet, ip("10.1.0.11"), time.Hour); err == nil {
			t.Error("a lease was given that cannot be written")
		}
		if table.Failing() == nil {
			t.Error("that leases cannot be written is not told")
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(table.Mend(), table.Failing()); err != nil {
			t.Errorf("there is room again: %v", err)
		}
		take(t, table, macB)
		if got, ok := again(t, table).Of(macB); !ok {
			t.Errorf("what was given after it is lost: %v", got)
		}
		if err := os.RemoveAll(leases); err != nil {
			t.Fatal(err)
		}
	}
}

// fill takes all the room that there is, for a file of that name.
func fill(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return path
}
