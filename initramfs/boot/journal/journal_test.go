package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestLinesHaveATimeAndDoNothingToATerminal(t *testing.T) {
	var out bytes.Buffer
	j := New(&out)
	now := 3214 * time.Millisecond
	j.Uptime = func() time.Duration { return now }
	s := j.Begin(bootstage.Network)
	now += 1100 * time.Millisecond
	s.Done("eth0 10.1.2.3/24 from %s", "evil\x1b[2Jname\n")
	s.Failed(fault.Hintf(errors.New("no"), "do this"))
	want := "[   4.314] windlass: network: eth0 10.1.2.3/24 from evil [2Jname  (1.10 s)\n[   4.314] windlass: network: failed: no: do this\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

// stuck takes nothing until it is let go.
type stuck struct {
	let chan struct{}
	mu  sync.Mutex
	got bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func TestAStuckConsoleHoldsUpNobody(t *testing.T) {
	s := &stuck{let: make(chan struct{})}
	c := NewConsole(s)
	for i := range backlog * 3 {
		fmt.Fprintf(c, "line %d\n", i)
	}
	c.Flush(10 * time.Millisecond)
	close(s.let)
	c.Flush(10 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.got.String(); !strings.HasPrefix(text, "line 0\n") || !strings.Contains(text, "lines were left out here") {
		t.Errorf("%.100s … %s", text, text[max(0, len(text)-100):])
	}
}

func TestTheLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log/windlass.log")
	l, err := OpenFile(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := fmt.Fprintf(l, "line %02d of this log, which is not long\n", i); err != nil {
			t.Fatal(err)
		}
	}
	now, err := os.ReadFile(path)
	before, err2 := os.ReadFile(path + ".1")
	if err != nil || err2 != nil || len(now) > 1000 || len(before) > 1000 || !strings.Contains(string(now), "line 99") {
		t.Errorf("%v, %v: %d and %d bytes", err, err2, len(now), len(before))
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

// receiver is a boot server that fails as often as it is told.
func receiver(t *testing.T, fail int) (string, <-chan map[string]any) {
	got := make(chan map[string]any, 200)
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := bootstage.ParseReport(body); err != nil {
			t.Errorf("the boot server cannot read %s: %v", body, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if fail > 0 {
			fail--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		got <- m
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func next(t *testing.T, got <-chan map[string]any) map[string]any {
	t.Helper()
	select {
	case m := <-got:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no report came")
	}
	return nil
}

func TestReportsWaitForTheNetworkAndAreTriedAgain(t *testing.T) {
	url, got := receiver(t, 2)
	j := New()
	r := NewReporter(t.Context(), url, func() (string, string) { return "52:54:00:12:34:56", "n1" }, func(err error) { t.Error(err) })
	r.pause = 10 * time.Millisecond
	j.Report(r)
	j.Begin(bootstage.Init).Done("up")
	j.Begin(bootstage.Network).Failed(errors.New("no link"))
	select {
	case m := <-got:
		t.Fatalf("%v came before there was a network", m)
	case <-time.After(50 * time.Millisecond):
	}
	r.Network()
	for _, want := range []string{"init begun up:<nil> <nil>", "init done up:up <nil>", "network begun up:<nil> <nil>", "network failed up:<nil> no link"} {
		m := next(t, got)
		if text := fmt.Sprintf("%v %v up:%v %v", m["stage"], m["state"], m["message"], m["error"]); text != want {
			t.Errorf("got %q, want %q", text, want)
		}
		late := m["sent_ms"].(float64) - m["uptime_ms"].(float64)
		if m["mac"] != "52:54:00:12:34:56" || m["host"] != "n1" || m["uptime_ms"].(float64) <= 0 || late < 50 || late > 60_000 {
			t.Errorf("%v", m)
		}
	}
	r.Flush(10 * time.Second)
}

func TestABootServerThatIsGoneCostsNothing(t *testing.T) {
	url, _ := receiver(t, 1<<30)
	told := make(chan error, queued)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := NewReporter(ctx, url+"?key=hunter2", func() (string, string) { return "52:54:00:12:34:56", "" }, func(err error) { told <- err })
	r.pause = time.Millisecond
	r.Network()
	j := New()
	j.Report(r)
	for range queued * 2 {
		j.Begin(bootstage.Config)
	}
	select {
	case err := <-told:
		if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "500") {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing was told")
	}
}
