package chunk_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
)

// withoutOrigin takes a mount away whose reader was killed while it waited for an origin that does not come back.
func withoutOrigin(t *testing.T) {
	for name, cacheDir := range map[string]string{"lazy": t.TempDir(), "lazy, from loop devices": tmpfs(t), "fuse": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			r, o := begin(t, cacheDir), newFlaky(t)
			target := mounttest.Place(t)
			a, err := r.driver.Mount(t.Context(), 1, realSpec(o.url, name[:4]), nil, target)
			if err != nil {
				t.Fatal(err)
			}
			o.down.Store(true)
			reader := exec.Command("cat", filepath.Join(target.Dir, "large"))
			if err := reader.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-o.refused:
			case <-time.After(20 * time.Second):
				t.Error("nothing was asked of the origin")
			}
			_ = reader.Process.Kill()
			_ = reader.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.driver.Unmount(ctx, a, false); err != nil {
				t.Errorf("unmount: %v", err)
				o.down.Store(false) // or it never ends
				_ = r.driver.Unmount(t.Context(), a, false)
			}
			if _, state, err := r.driver.Probe(t.Context(), 1, nil, target); err != nil || state != mount.Gone {
				t.Errorf("probe at the end: state %d, %v", state, err)
			}
		})
	}
}

// flaky is an origin that can go down.
type flaky struct {
	url     string
	down    atomic.Bool
	refused chan struct{} // told of what is asked while it is
}

func newFlaky(t *testing.T) *flaky {
	t.Helper()
	behind, err := url.Parse(published(t))
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{refused: make(chan struct{}, 1)}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.down.Load() {
			proxy.ServeHTTP(w, r)
			return
		}
		http.Error(w, "down", http.StatusServiceUnavailable)
		select {
		case f.refused <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(web.Close)
	f.url = web.URL
	return f
}
