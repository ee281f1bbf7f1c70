package containertest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func testLog(t *testing.T, h Harness) {
	t.Run("content", func(t *testing.T) {
		f := NewFixture(t, h)
		_, log := f.Run(Shell(`echo one; echo two >&2; printf "a\tb\n"; printf "no end"`))
		if log != "one\ntwo\na\tb\nno end" {
			t.Errorf("log %q", log)
		}
	})
	t.Run("last output is never lost", func(t *testing.T) {
		f := NewFixture(t, h)
		for range 20 {
			if _, log := f.Run(Shell(`yes 0123456789abcde | dd bs=16 count=1000 2>/dev/null`)); len(log) != 16000 {
				t.Fatalf("%d bytes of 16000", len(log))
			}
		}
	})
	t.Run("seek and size", func(t *testing.T) { testSeek(t, h) })
	t.Run("follow", func(t *testing.T) { testFollow(t, h) })
	t.Run("rotation", func(t *testing.T) { testRotation(t, h) })
	t.Run("none", func(t *testing.T) {
		if _, err := h.New(t).OpenLog(t.Context(), 77); !fault.Is(err, fault.NotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func testSeek(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell("echo 0123456789"))
	f.Exit(id)
	l, err := f.R.OpenLog(f.Ctx, id)
	must(t, err)
	defer l.Close()
	if n, err := l.Size(); err != nil || n != 11 {
		t.Errorf("size %d %v", n, err)
	}
	at, err := l.Seek(-5, io.SeekEnd)
	must(t, err)
	if b, err := io.ReadAll(l); err != nil || at != 6 || string(b) != "6789\n" {
		t.Errorf("tail from %d: %q %v", at, b, err)
	}
	if err := l.WaitMore(f.Ctx, 3); err != nil {
		t.Errorf("there is more than 3: %v", err)
	}
	if err := l.WaitMore(f.Ctx, 11); !errors.Is(err, io.EOF) {
		t.Errorf("nothing more can come: %v", err)
	}
	if _, err := l.Seek(-1, io.SeekStart); err == nil {
		t.Error("seek before the beginning")
	}
}

func testFollow(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	id, _ := f.Start(Shell(`trap "echo last; exit" TERM; echo up; while true; do sleep 0.02; done`))
	f.UntilLogged(id, "up")
	got, errs := make(chan string, 1), make(chan error, 1)
	go func() {
		s, err := f.follow(id)
		got <- s
		errs <- err
	}()
	must(t, f.R.Signal(f.Ctx, id, 15))
	if s, err := <-got, <-errs; s != "up\nlast\n" || err != nil {
		t.Errorf("followed %q, %v", s, err)
	}
}

// follow reads the log until no more can come.
func (f *Fixture) follow(id container.ID) (string, error) {
	l, err := f.R.OpenLog(f.Ctx, id)
	if err != nil {
		return "", err
	}
	defer l.Close()
	var all strings.Builder
	for {
		if _, err := io.Copy(&all, l); err != nil {
			return all.String(), err
		}
		err := l.WaitMore(f.Ctx, int64(all.Len()))
		if errors.Is(err, io.EOF) {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
	}
}

// testRotation writes several times the limit while somebody follows: a follower misses nothing, a later reader sees the end.
func testRotation(t *testing.T, h Harness) {
	f := NewFixture(t, h)
	lines := int(h.LogSize) * 4 / 8
	id, _ := f.Start(Shell(fmt.Sprintf(`sleep 0.2; i=1000000; while [ $i -lt %d ]; do echo $i; i=$((i+1)); done`, 1000000+lines)))
	all, err := f.follow(id)
	must(t, err)
	got := strings.Split(strings.TrimSpace(all), "\n")
	if len(got) != lines || got[0] != "1000000" || got[lines-1] != fmt.Sprint(1000000+lines-1) {
		t.Errorf("followed %d lines of %d, from %s to %s", len(got), lines, got[0], got[len(got)-1])
	}
	kept := f.Log(id)
	if int64(len(kept)) > 2*h.LogSize || int64(len(kept)) < h.LogSize/2 || !strings.HasSuffix(all, kept) {
		t.Errorf("%d bytes are kept, of a limit of 2*%d", len(kept), h.LogSize)
	}
}
