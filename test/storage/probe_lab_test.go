//go:build lab

package storage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/daemon"
)

// probe asks the daemon for everything that it lists, and how it is, several times a second, while something hangs.
type probe struct {
	t      *testing.T
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	worst  time.Duration
	path   string // that took so long
	asked  int
	failed []string
}

// probeTick is how often each is asked for.
const probeTick = 200 * time.Millisecond

// probe begins to ask.
func (w *world) probe() *probe {
	ctx, cancel := context.WithCancel(w.t.Context())
	p := &probe{t: w.t, cancel: cancel}
	client := w.node.Client()
	for _, path := range []string{daemon.BasePath + "/container", daemon.BasePath + "/attach", daemon.BasePath + "/mount", "/healthz"} {
		p.wg.Go(func() { p.ask(ctx, client, path) })
	}
	return p
}

func (p *probe) ask(ctx context.Context, client *http.Client, path string) {
	tick := time.NewTicker(probeTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		// An answer that is late is waited for, to say how late it was.
		err := fetch(client, path, 4*answerTimeout)
		p.note(path, time.Since(began), err)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func fetch(client *http.Client, path string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://windlass"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

func (p *probe) note(path string, took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if took > p.worst {
		p.worst, p.path = took, path
	}
	if err != nil && len(p.failed) < 5 {
		p.failed = append(p.failed, "GET "+path+": "+err.Error())
	}
}

// end stops asking, and holds that every answer came in time; what names the fault in the figure.
func (p *probe) end(what string) {
	p.t.Helper()
	p.cancel()
	p.wg.Wait()
	if len(p.failed) > 0 {
		p.t.Errorf("while %s: %s", what, strings.Join(p.failed, "; "))
	}
	if p.worst > answerTimeout {
		p.t.Errorf("while %s, GET %s was answered after %v", what, p.path, p.worst)
	}
	p.t.Logf("figure: %s: %d requests answered, the slowest in %v", what, p.asked, p.worst.Round(time.Millisecond))
}
