package lazyfs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// TestWhatCannotBeMounted asks for what is no image, or not the one meant, or cannot be had: each is refused with its status and a
// message that says what is wrong, in time, and nothing is left.
func TestWhatCannotBeMounted(t *testing.T) {
	img, next := shared.pair(t)
	origin, hanging := serve(t, img.store), serve(t, img.store)
	hanging.hanged.Store(true)
	page := serve(t, img.tree) // a web server without a store
	limit := 2 * time.Second
	w := begin(t, "--create-timeout", limit.String(), "--step-timeout", limit.String())
	with := func(change func(*models.MountChunkfs)) any { return spec(img, "auto", change, origin.url) }
	set := func(field string, value any) any {
		part := map[string]any{"image": img.tag, "origins": []any{map[string]any{"url": origin.url}}}
		part[field] = value
		return map[string]any{"kind": "chunkfs", "chunkfs": part}
	}
	for _, c := range []struct {
		what   string
		body   any
		status int
		says   string
	}{
		{"nothing", `{"kind":"chunkfs"}`, 400, "chunkfs"},
		{"no image", `{"kind":"chunkfs","chunkfs":{"origins":[{"url":"http://x"}]}}`, 422, "image"},
		{"no origin", `{"kind":"chunkfs","chunkfs":{"image":"x"}}`, 422, "origins"},
		{"an empty list of origins", `{"kind":"chunkfs","chunkfs":{"image":"x","origins":[]}}`, 422, "origins"},
		{"an origin of nothing", `{"kind":"chunkfs","chunkfs":{"image":"x","origins":[null]}}`, 422, "origins"},
		{"17 origins", with(func(p *models.MountChunkfs) { p.Origins = slices.Repeat(p.Origins, 17) }), 422, "origins"},
		{"a way out of the store", set("image", "../../etc/passwd"), 422, "image"},
		{"a way out of the tags", set("image", "a/../../blobs"), 400, "image"},
		{"half a digest", set("image", "blake3:0011"), 400, "image"},
		{"a long name", set("image", strings.Repeat("x", 100_000)), 422, "image"},
		{"a mode of another world", set("mode", "turbo"), 422, "mode"},
		{"verify maybe", set("verify", "maybe"), 422, "verify"},
		{"a role with a slash", set("role", "../boot"), 422, "role"},
		{"bandwidth below nothing", set("bandwidth", -1), 422, "bandwidth"},
		{"a field that is not there", set("colour", "red"), 422, "colour"},
		{"another scheme", with(func(p *models.MountChunkfs) { *p.Origins[0].URL = "gopher://x/y" }), 400, "gopher"},
		{"a relative path", with(func(p *models.MountChunkfs) { *p.Origins[0].URL = "images" }), 400, "url"},
		{"two passwords", with(func(p *models.MountChunkfs) { p.Origins[0].Token, p.Origins[0].Password = "SECRET", "SECRET" }), 400, "token"},
		{"no certificate", with(func(p *models.MountChunkfs) { p.Origins[0].Ca = "SECRET" }), 400, "ca"},
		{"no such tag", set("image", "test/none"), 404, "test/none"},
		{"no such digest", set("image", "blake3:"+strings.Repeat("0", 64)), 404, "blake3:000"},
		{"another image", with(func(p *models.MountChunkfs) { p.Digest = next.digest }), 422, next.digest},
		{"a web server without a store", spec(img, "auto", nil, page.url), 404, page.url},
		{"a directory that is not there", spec(img, "auto", nil, "/no/such/directory"), 404, "/no/such/directory"},
		{"an origin that refuses", spec(img, "auto", nil, unused(t)), 0, "127.0.0.1"},
		{"an origin that hangs", spec(img, "fuse", nil, hanging.url), 0, hanging.url},
	} {
		began := time.Now()
		status, e := daemon.Refused(t, w.d, http.MethodPost, "/mount", c.body)
		took := time.Since(began)
		t.Logf("%s: %d %s", c.what, status, *e.Message)
		if status != c.status && (c.status != 0 || status != 502 && status != 503 && status != 504) {
			t.Errorf("%s: %d, want %d: %s", c.what, status, c.status, *e.Message)
		}
		if !strings.Contains(*e.Message, c.says) || strings.Contains(*e.Message, "SECRET") || len(*e.Message) > 2000 {
			t.Errorf("%s: the message is %.2000q", c.what, *e.Message)
		}
		if took > limit+3*time.Second {
			t.Errorf("%s: it took %v", c.what, took)
		}
		w.untouched()
	}
}

// TestWhatIsTold reads two files and looks for that in GET /mount, in the metrics, and in what the server says of files. A password is
// told by nobody.
func TestWhatIsTold(t *testing.T) {
	img, _ := shared.pair(t)
	origin := serve(t, img.store)
	w := begin(t)
	m := w.mount(img, "lazy", func(p *models.MountChunkfs) { p.Origins[0].Username, p.Origins[0].Password = "node", "TOPSECRET" }, origin.url)
	want := int64(0)
	for _, path := range []string{"lib/mid-3", "big-1"} {
		got, err := os.ReadFile(filepath.Join(m.Mountpoint, path))
		must(t, err)
		want += int64(len(got))
	}
	var s *models.ChunkfsStatus
	within(t, stall, "the status counts what was read", func() bool { s = w.status(m); return s.Served >= want })
	if s.Mode != "lazy" || s.Image != img.digest || s.Size < 40<<20 || s.Cached < want || s.Complete || s.Wanted < want || s.Fetched <= 0 ||
		s.Hits+s.Misses == 0 || s.Errors != 0 || s.Requests == 0 || s.Rss <= 0 || s.Amplification <= 0 || len(s.Latency) == 0 {
		t.Errorf("the status is %+v", s)
	}
	if len(s.Origins) != 1 || !s.Origins[0].Healthy || s.Origins[0].Bytes < s.Fetched || s.Origins[0].URL != origin.url {
		t.Errorf("the origins are %+v", s.Origins)
	}
	w.metrics(m, s)
	files, err := control.Client{Socket: w.place.Socket()}.Files(t.Context(), fmt.Sprint(m.ID), false)
	must(t, err)
	if len(files) != 2 || files[0].Path != "lib/mid-3" || files[1].Path != "big-1" || files[0].Bytes+files[1].Bytes < want {
		t.Errorf("read were %+v", files)
	}
	w.secret("TOPSECRET")
	w.unmount(m)
	w.untouched()
}

// metrics holds that the metrics have a series of everything that the status has.
func (w *world) metrics(m *models.Mount, s *models.ChunkfsStatus) {
	w.t.Helper()
	text, err := w.d.Metrics(w.t.Context())
	must(w.t, err)
	labels := fmt.Sprintf(`{image="%s",mode="lazy",mount="%d"`, s.Image, m.ID)
	for _, name := range []string{
		"up", "size_bytes", "cached_bytes", "complete", "wanted_bytes_total", "served_bytes_total", "fetched_bytes_total", "shared_bytes_total", "amplification",
		"hits_total", "misses_total", "errors_total", "corrupt_chunks_total", "origin_requests_total", "prefetch_done_bytes", "prefetch_bytes",
		"read_duration_seconds_bucket", "read_duration_seconds_count", "origin_healthy", "origin_latency_seconds", "origin_failures_total", "origin_corrupt_total", "origin_bytes_total",
	} {
		if !strings.Contains(text, "\nwindlass_chunkfs_"+name+labels) {
			w.t.Errorf("there is no series %s%s", name, labels)
		}
	}
	if !strings.Contains(text, fmt.Sprintf("\nwindlass_chunkfs_size_bytes%s} %g\n", labels, float64(s.Size))) {
		w.t.Errorf("the size is not %d", s.Size)
	}
}

// secret holds that a word is told by nobody: lists, metrics, logs, command lines.
func (w *world) secret(word string) {
	w.t.Helper()
	list, err := w.d.Text(w.t.Context(), "/mount")
	must(w.t, err)
	metrics, err := w.d.Metrics(w.t.Context())
	must(w.t, err)
	log, err := os.ReadFile(w.place.Log())
	must(w.t, err)
	p := w.processes()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.server))
	must(w.t, err)
	for what, text := range map[string]string{"GET /mount": list, "the metrics": metrics, "the daemon's log": w.d.Log(), "the server's log": string(log), "its command line": string(line)} {
		if strings.Contains(text, word) {
			w.t.Errorf("%s shows the password", what)
		}
	}
}
