// Package load has a thousand clients at once on one daemon, built with the race detector, and holds that nothing breaks and nothing stays.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

func TestMain(m *testing.M) { daemon.Main(m) }

const (
	clients = 1000
	rounds  = 3 // what each client does
	own     = 2 // descriptors and goroutines of the connection that asks for the number
)

// tally counts answers by status and keeps how long the reads took.
type tally struct {
	mu     sync.Mutex
	status map[int]int
	reads  []time.Duration
	wrong  []string
}

func (t *tally) add(what string, status int, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status[status]++
	if strings.HasPrefix(what, http.MethodGet) {
		t.reads = append(t.reads, took)
	}
	if err != nil || (status >= 500 && status != http.StatusServiceUnavailable) {
		t.wrong = append(t.wrong, fmt.Sprintf("%s: %d %v", what, status, err))
	}
}

func TestThousandClients(t *testing.T) {
	n := daemon.NewNode(t)
	d := n.Start(daemon.Options{Binaries: daemon.Build(t, "-race"), Args: []string{"--log-level", "warn"}})
	image := smallroot.Image(t)
	warm(t, d, image)
	fds, goroutines := descriptors(t, d), gauge(t, d, "go_goroutines")

	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	all := &tally{status: map[int]int{}}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := client{d: d, t: all, image: image, name: fmt.Sprintf("c%d", i), rng: rand.New(rand.NewPCG(1, uint64(i)))}
			for range rounds {
				c.act(ctx)
			}
		})
	}
	wg.Wait()
	for _, w := range all.wrong[:min(len(all.wrong), 10)] {
		t.Error(w)
	}
	slices.Sort(all.reads)
	t.Logf("figure: answers by status %v; GET: median %s, p99 %s of %d", all.status, all.reads[len(all.reads)/2], all.reads[len(all.reads)*99/100], len(all.reads))
	cleared(ctx, t, d)
	d.CloseIdle()
	settle(ctx, t, "descriptors", fds+own, func() int { return descriptors(t, d) })
	settle(ctx, t, "goroutines", goroutines+own, func() int { return gauge(t, d, "go_goroutines") })
	if strings.Contains(d.Log(), "DATA RACE") {
		t.Errorf("races:\n%s", d.Log())
	}
	d.Stop()
}

// warm has the daemon do everything once, so that the baseline holds what stays for good.
func warm(t *testing.T, d *daemon.Daemon, image string) {
	t.Helper()
	all := &tally{status: map[int]int{}}
	c := client{d: d, t: all, image: image, name: "warm", rng: rand.New(rand.NewPCG(1, 1))}
	for range 20 {
		c.act(t.Context())
	}
	if len(all.wrong) > 0 {
		t.Fatal(all.wrong)
	}
	cleared(t.Context(), t, d)
	d.CloseIdle()
}

// cleared waits until nothing is listed.
func cleared(ctx context.Context, t *testing.T, d *daemon.Daemon) {
	t.Helper()
	settle(ctx, t, "objects", 0, func() int {
		o, err := d.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return len(o.Attachments) + len(o.Mounts) + len(o.Containers)
	})
}

// settle waits until a number is back at its baseline. What is measured has no event to wait for.
func settle(ctx context.Context, t *testing.T, what string, baseline int, now func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		n := now()
		if n <= baseline {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Errorf("%s: %d, were %d before", what, n, baseline)
			return
		}
	}
}

func descriptors(t *testing.T, d *daemon.Daemon) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func gauge(t *testing.T, d *daemon.Daemon, name string) int {
	t.Helper()
	text, err := d.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				t.Fatal(err)
			}
			return int(f)
		}
	}
	t.Fatalf("no %s in the metrics", name)
	return 0
}

// client is one of the thousand.
type client struct {
	d     *daemon.Daemon
	t     *tally
	image string
	name  string
	rng   *rand.Rand
}

// act does one thing, picked at random: mostly it reads.
func (c *client) act(ctx context.Context) {
	switch n := c.rng.IntN(20); {
	case n < 8:
		c.call(ctx, http.MethodGet, "/container", nil, nil)
	case n < 12:
		c.call(ctx, http.MethodGet, "/mount?kind=overlay", nil, nil)
	case n < 14:
		c.call(ctx, http.MethodGet, "/attach?id=1000000", nil, nil)
	case n < 16:
		c.call(ctx, http.MethodPost, "/mount", `{"kind":"overlay","overlay":{"lower":[null]}}`, nil)
	case n < 18:
		c.comeAndGo(ctx, "/mount", `{"kind":"tmpfs","tmpfs":{"size":65536}}`)
	case n < 19:
		c.comeAndGo(ctx, "/attach", `{"kind":"loopback","loopback":{"base":"root","path":"`+c.image+`"}}`)
	default:
		c.comeAndGo(ctx, "/container", `{"name":"`+c.name+`","command":"/bin/true","state":"running","mount":{"kind":"attach","attach":{"fs_type":"squashfs",`+
			`"attach":{"kind":"loopback","loopback":{"base":"root","path":"`+c.image+`"}}}}}`)
	}
}

// comeAndGo makes an object and deletes it. When the daemon has no room for the deletion now (503) it comes again, as a client does.
func (c *client) comeAndGo(ctx context.Context, path, body string) {
	var o models.Container // of the others it has the id
	if status := c.call(ctx, http.MethodPost, path, body, &o); status != http.StatusCreated {
		return
	}
	for ctx.Err() == nil {
		if c.call(ctx, http.MethodDelete, fmt.Sprintf("%s?id=%d&force=true", path, o.ID), nil, nil) != http.StatusServiceUnavailable {
			return
		}
	}
}

func (c *client) call(ctx context.Context, method, path string, body, out any) int {
	began := time.Now()
	status, err := c.d.Call(ctx, method, path, body, out)
	c.t.add(method+" "+path, status, time.Since(began), err)
	return status
}
