package boot

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/api"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// late is a listener whose first connections are broken off, as those of a daemon that is being started again.
type late struct {
	net.Listener
	mu     sync.Mutex
	broken int
}

func (l *late) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.broken--
		open := l.broken < 0
		l.mu.Unlock()
		if open {
			return c, nil
		}
		c.Close()
	}
}

// TestTheEndWaitsForTheDaemon has a node end while its daemon is not there: it is waited for, and takes down what clients hold, whoever else
// holds it.
func TestTheEndWaitsForTheDaemon(t *testing.T) {
	var mu sync.Mutex
	var gone []string
	d := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var v any = struct{}{}
		switch {
		case r.Method == http.MethodDelete:
			gone = append(gone, r.URL.Path+"?"+r.URL.RawQuery)
		case r.URL.Path == "/imageapi/v1/mount":
			v = []models.Mount{{ID: 1, Refs: 2, Holders: []string{"client", "container:3"}}, {ID: 2, Refs: 1, Holders: []string{"mount:1"}},
				{ID: 4, Refs: 2, Holders: []string{"attach:9", "client"}}}
		case r.URL.Path == "/imageapi/v1/attach":
			v = []models.Attach{{ID: 5, Refs: 1, Holders: []string{"client"}}}
		default:
			v = []models.Container{}
		}
		_ = json.NewEncoder(w).Encode(v)
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(d)
	s.Listener.Close()
	s.Listener = &late{Listener: l, broken: 3}
	s.Start()
	t.Cleanup(s.Close)
	n, _ := newNode(t, &fakeDaemon{}, "")
	n.api = api.New(socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n.emptyNode(ctx)
	want := []string{"/imageapi/v1/mount?force=true&id=1", "/imageapi/v1/mount?force=true&id=4", "/imageapi/v1/attach?force=true&id=5"}
	if !slices.Equal(gone, want) {
		t.Errorf("taken down: %q, want %q", gone, want)
	}
}

func TestANodeThatEndsStartsNoDaemon(t *testing.T) {
	n, _ := newNode(t, &fakeDaemon{}, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.startDaemon(ctx)
	if n.daemon != nil {
		t.Error("there is a daemon, which nobody ends")
	}
}
