package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
)

// images runs `windlass image …` without a daemon.
func images(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, map[string]string{"WINDLASS_SOCKET": "/nonexistent/s"}, nil, append([]string{"windlass", "image"}, args...)...)
}

// smallTree makes something to build from.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"etc/hostname": "node\n", "bin/prog": strings.Repeat("#!/bin/prog\n", 9000)} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// built makes a store with one image, a/1, and gives store and tree.
func builtStore(t *testing.T) (at, tree string) {
	t.Helper()
	at, tree = filepath.Join(t.TempDir(), "store"), smallTree(t)
	r := images(t, "build", tree, "-o", at, "--tag", "a/1", "--label", "from=test")
	r.want(t, 0, "")
	return at, tree
}

func TestImagesAreBuiltListedAndInspected(t *testing.T) {
	at, tree := builtStore(t)
	var b built
	r := images(t, "build", tree, "-o", at, "--tag", "a/2", "--format", "json")
	if err := json.Unmarshal([]byte(r.out), &b); err != nil || b.NewChunks != 0 || b.Tag != "a/2" || b.Chunks == 0 {
		t.Fatalf("the same again adds %+v, %v\n%s%s", b, err, r.out, r.err)
	}
	r = images(t, "ls", at, "-q")
	if r.want(t, 0, ""); r.out != "a/1\na/2\n" {
		t.Errorf("ls -q: %q", r.out)
	}
	r = images(t, "ls", at)
	if r.want(t, 0, ""); !strings.Contains(r.out, "TAG") || !strings.Contains(r.out, "a/2  "+brief(b.Image)) {
		t.Errorf("ls: %s", r.out)
	}
	r = images(t, "inspect", at+"#a/1")
	if r.want(t, 0, ""); !strings.Contains(r.out, "from=test") || !strings.Contains(r.out, "6 files") && !strings.Contains(r.out, "5 files") {
		t.Errorf("inspect: %s", r.out)
	}
	images(t, "check", at).want(t, 0, "")
}

// TestAStoreThatCannotBeIsRefused before anything is made.
func TestAStoreThatCannotBeIsRefused(t *testing.T) {
	tree := smallTree(t)
	t.Chdir(t.TempDir())
	if err := os.Symlink(tree, "link"); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"http://h/s":         "a store is built in a directory",
		tree:                 "it would hold the store itself",
		tree + "/var/images": "it would hold the store itself",
		"link/images":        "it would hold the store itself",
	} {
		images(t, "build", tree, "-o", at, "--tag", "a").want(t, 2, want)
	}
	images(t, "build", tree, "-o", "store", "--tag", "a b").want(t, 2, `tag "a b"`)
	images(t, "build", tree, "-o", "store", "--tag", "blake3:0").want(t, 2, "reads as the digest of an image")
	for _, dir := range []string{"http:", "store", tree + "/var", tree + "/images"} {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s was made", dir)
		}
	}
}

func TestAnImageIsUnpackedExportedAndServed(t *testing.T) {
	at, tree := builtStore(t)
	h, err := image.NewHandler(at)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	web := httptest.NewServer(h)
	defer web.Close()
	want, err := os.ReadFile(tree + "/bin/prog")
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{at, web.URL} {
		out := filepath.Join(t.TempDir(), "out")
		images(t, "unpack", from+"#a/1", out).want(t, 0, "")
		if got, err := os.ReadFile(out + "/bin/prog"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("from %s: %d bytes, %v", from, len(got), err)
		}
		images(t, "unpack", from+"#a/1", out).want(t, exitConflict, "not empty")
		if r := images(t, "export", from+"#a/1", "-", "--as", "tar"); r.code != 0 || !strings.Contains(r.out, "./etc/hostname") {
			t.Errorf("export to stdout: %d, %s", r.code, r.err)
		}
		images(t, "diff", from+"#a/1", "a/1").want(t, 0, "")
	}
	file := filepath.Join(t.TempDir(), "x.erofs")
	images(t, "export", at+"#a/1", file).want(t, 0, "")
	if st, err := os.Stat(file); err != nil || st.Size() < int64(len(want)) {
		t.Errorf("the export: %v, %v", st, err)
	}
}

func TestMistakesWithImagesSayWhatToDo(t *testing.T) {
	at, tree := builtStore(t)
	for _, c := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"inspect", at}, exitUsage, "write STORE#TAG"},
		{[]string{"inspect", at + "#none"}, exitNotFound, "none"},
		{[]string{"ls", "/nonexistent"}, exitNotFound, "there is no store"},
		{[]string{"ls", "http://x/"}, exitFailed, "cannot be listed"},
		{[]string{"build", tree, "-o", at}, exitUsage, "--tag NAME"},
		{[]string{"build", tree, "-o", at, "--tag", "../x"}, exitUsage, "tag"},
		{[]string{"build", tree, "-o", at, "--tag", "x", "--codec", "rar"}, exitUsage, "rar"},
		{[]string{"build", "/nonexistent", "-o", at, "--tag", "x"}, exitNotFound, "/nonexistent"},
		{[]string{"build", tree, "-o", smallTree(t), "--tag", "x"}, exitConflict, "no store"},
		{[]string{"build", tree, "-o", at, "--tag", "a/1/b"}, exitConflict, "a/1/b"},
		{[]string{"export", at + "#a/1", "x.zip"}, exitUsage, "--as"},
		{[]string{"export", at + "#a/1", "-", "--as", "erofs"}, exitUsage, "stdout"},
		{[]string{"rm", "http://x/#a"}, exitUsage, "where it lies"},
		{[]string{"check", at + "#a/1", at}, exitUsage, "one store"},
		{[]string{"gc", at, "--grace", "-1s"}, exitUsage, "--grace"},
		{[]string{"unpin", at + "#a/1"}, exitNotFound, "no pin"},
		{[]string{"trace", "show", at + "#a/1"}, exitNotFound, "no trace boot"},
		{[]string{"trace", "stop", "1"}, exitUsage, "--store"},
		{[]string{"trace", "start", "x"}, exitUsage, "not the ID"},
		{[]string{"trace", "start", "1", "--run-dir", "/nonexistent"}, exitUnreachable, "nobody answers"},
		{[]string{"stat"}, exitUnreachable, "cannot reach the daemon"},
	} {
		images(t, c.args...).want(t, c.code, c.text)
	}
}

func TestTagsPinsAndCollection(t *testing.T) {
	at, _ := builtStore(t)
	images(t, "tag", at+"#a/1", "production").want(t, 0, "")
	images(t, "pin", at+"#production", "--reason", "rack 3").want(t, 0, "")
	images(t, "rm", at+"#a/1", at+"#production").want(t, 0, "")
	r := images(t, "gc", at, "--grace", "0", "-o", "json")
	var gc store.GCReport
	if err := json.Unmarshal([]byte(r.out), &gc); err != nil || gc.Removed != 0 || gc.Images != 1 {
		t.Fatalf("got %s, %v", r.out, err)
	}
	r = images(t, "ls", at, "-q")
	digest := strings.TrimSpace(r.out)
	images(t, "unpin", at+"#"+digest).want(t, 0, "")
	if r = images(t, "gc", at, "--grace", "0"); r.code != 0 || !strings.Contains(r.out, "of 0 images") {
		t.Fatalf("got %+v", r)
	}
	images(t, "inspect", at+"#"+digest).want(t, exitNotFound, "fetch the manifest")
}

func TestDamageIsToldAndMended(t *testing.T) {
	at, _ := builtStore(t)
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(at)); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := s.Tag("a/1")
	m, err := s.Manifest(d)
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Index(m)
	if err != nil {
		t.Fatal(err)
	}
	pack := filepath.Join(at, format.BlobPath(format.Digest{Algorithm: m.Algorithm, Sum: x.Packs[0].Sum}))
	if err := os.WriteFile(pack, []byte("rubbish"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := images(t, "check", at)
	if r.want(t, exitFailed, "1 damages are left"); !strings.Contains(r.out, "file: bin/prog") || !strings.Contains(r.out, "images: a/1") {
		t.Errorf("got %s", r.out)
	}
	r = images(t, "check", at+"#a/1", "--repair", good)
	if r.want(t, 0, ""); !strings.Contains(r.out, "mended  pack") {
		t.Errorf("got %s", r.out)
	}
	images(t, "check", at).want(t, 0, "")
}

func TestAStoreIsServedUntilTheEnd(t *testing.T) {
	at, _ := builtStore(t)
	ready := filepath.Join(t.TempDir(), "url")
	ended := make(chan result, 1)
	go func() {
		ended <- run(t, nil, nil, "windlass", "image", "serve", at, "--listen", "127.0.0.1:0", "--ready-file", ready, "--timeout", "2s")
	}()
	var url []byte
	for deadline := time.Now().Add(2 * time.Second); len(url) == 0 && time.Now().Before(deadline); {
		url, _ = os.ReadFile(ready)
	}
	resp, err := http.Get(strings.TrimSpace(string(url)) + "/tags/a/1")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.HasPrefix(string(text), "blake3:") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	if r := <-ended; r.code != 0 {
		t.Errorf("it ended with %+v", r)
	}
}

// TestATraceGoesIntoTheStore has a server that answers as the chunkfs server does.
func TestATraceGoesIntoTheStore(t *testing.T) {
	at, tree := builtStore(t)
	s, err := store.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := s.Tag("a/1")
	place := control.PlaceIn(t.TempDir())
	if err := os.Mkdir(string(place), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", place.Socket())
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		switch {
		case strings.HasSuffix(r.URL.Path, "/files"):
			_ = json.NewEncoder(w).Encode([]control.File{{Path: "bin/prog", Reads: 3, Bytes: 4096, First: int64(time.Second)}})
		case r.URL.Query().Get("do") == "stop":
			_ = json.NewEncoder(w).Encode(format.Trace{Version: format.Version, Image: d, Role: "boot", Paths: []string{"bin/prog"}})
		}
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	dir := filepath.Dir(string(place))
	file := filepath.Join(t.TempDir(), "boot.trace")
	images(t, "trace", "start", "7", "--run-dir", dir).want(t, 0, "")
	images(t, "trace", "stop", "7", "--run-dir", dir, "--store", at, "--file", file).want(t, 0, "")
	if r := images(t, "trace", "show", at+"#a/1"); r.out != "bin/prog\n" {
		t.Errorf("show: %+v", r)
	}
	images(t, "trace", "put", at, file).want(t, 0, "")
	if r := images(t, "stat", "7", "--files", "--run-dir", dir); r.code != 0 || !strings.Contains(r.out, "bin/prog") || !strings.Contains(r.out, "4KiB") {
		t.Errorf("stat: %+v", r)
	}
	for _, by := range [][]string{{"--like", "a/1"}, {"--trace", file}} {
		images(t, append([]string{"build", tree, "-o", at, "--tag", "a/2"}, by...)...).want(t, 0, "")
	}
	if len(asked) != 3 || asked[0] != "POST /v1/mounts/7/trace?do=start" {
		t.Errorf("asked: %q", asked)
	}
}

func TestStatShowsWhatTheDaemonKnows(t *testing.T) {
	d := newDaemon(t)
	status := map[string]any{"asked": "2031-05-06T07:08:09Z", "mode": "lazy", "image": "blake3:x", "size": 1 << 30, "cached": 1 << 28, "wanted": 1 << 20,
		"fetched": 1 << 19, "amplification": 1.25, "hits": 90, "misses": 10, "latency": []any{map[string]any{"le": 0.001, "count": 90}, map[string]any{"le": 0, "count": 10}},
		"origins": []any{map[string]any{"url": "http://head/images", "healthy": true}}}
	mount := map[string]any{"id": 12, "kind": "chunkfs", "chunkfs": map[string]any{"image": "debian/12", "origins": []any{map[string]any{"url": "http://head/images"}}, "status": status}}
	d.mux = http.NewServeMux()
	d.on("GET /mount", func(w http.ResponseWriter, r *http.Request) {
		if id := r.URL.Query().Get("id"); id != "" && id != "12" {
			refuse(w, 404, "not_found", "no mount "+id)
			return
		}
		answer(w, 200, []any{mount})
	})
	r := d.windlass(t, "image", "stat")
	if r.want(t, 0, ""); !strings.Contains(r.out, "debian/12  lazy  1GiB  256MiB, 25 %  1MiB    512KiB   1.25") {
		t.Errorf("got\n%s", r.out)
	}
	r = d.windlass(t, "image", "stat", "12")
	r.want(t, 0, "")
	for _, want := range []string{"http://head/images#debian/12", "90 answered at once, 10 waited, 0 failed", "half of the reads ≤ 1ms", "http://head/images: healthy"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is missing from\n%s", want, r.out)
		}
	}
	d.windlass(t, "image", "stat", "13").want(t, exitNotFound, "no mount 13")
}
