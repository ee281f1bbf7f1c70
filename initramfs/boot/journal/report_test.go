package journal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

func node() (mac, host string) { return "52:54:00:12:34:56", "n1" }

// TestFlushBesideReports has a node end while its stages still tell things: a panic there would be the kernel's.
func TestFlushBesideReports(t *testing.T) {
	url, got := receiver(t, 0)
	go func() {
		for range got {
		}
	}()
	j := New()
	r := NewReporter(t.Context(), url, node, func(error) {})
	r.Network()
	j.Report(r)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			j.Begin(bootstage.Image).Say("x")
		}
	}()
	for ctx.Err() == nil {
		r.Flush(time.Millisecond)
	}
	<-ended
	r.Flush(20 * time.Second)
	select {
	case <-r.queue.empty():
	default:
		t.Error("Flush came back before all had been posted")
	}
}

func TestWhatTheServerRefusesIsNotTriedAgain(t *testing.T) {
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(s.Close)
	told := make(chan error, 10)
	r := NewReporter(t.Context(), s.URL, node, func(err error) { told <- err })
	r.Network()
	j := New()
	j.Report(r)
	j.Begin(bootstage.Init).Done("up")
	r.Flush(20 * time.Second)
	if err := <-told; calls.Load() != 2 || !strings.Contains(err.Error(), "403") {
		t.Errorf("%d calls for two reports; told: %v", calls.Load(), err)
	}
	select {
	case err := <-told:
		t.Error("told again:", err)
	default:
	}
}

func TestTheNewestReportsAreKeptAndLongOnesCut(t *testing.T) {
	url, got := receiver(t, 0)
	r := NewReporter(t.Context(), url, node, func(err error) { t.Error(err) })
	j := New()
	j.Report(r)
	for i := range queued + 10 {
		j.Begin(bootstage.Image).Failed(fmt.Errorf("failure %d", i)) // two reports each
	}
	j.Begin(bootstage.Running).Failed(errors.New(strings.Repeat("ä", bootstage.MaxBody)))
	r.Network()
	var texts []string
	for range queued {
		texts = append(texts, fmt.Sprint(next(t, got)["error"]))
	}
	if first, last := texts[1], texts[queued-1]; first != "failure 75" || len(last) != bootstage.MaxText {
		t.Errorf("the first of those kept is %q, the last has %d bytes", first, len(last))
	}
}
