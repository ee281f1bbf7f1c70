package image

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func served(t *testing.T) (dir, url string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{
		"windlass-store.json": `{"layout":1}`, "tags/debian": "blake3:00\n", "blobs/blake3/ab/abcd": "0123456789",
		"leases/1": "secret", "pins/debian": "secret", "tags~": "secret",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h, err := NewHandler(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return dir, s.URL
}

func ask(t *testing.T, method, url, ranged string) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text), res.Header
}

func TestHandlerGivesWhatReadersRead(t *testing.T) {
	_, url := served(t)
	if code, body, _ := ask(t, "GET", url+"/tags/debian", ""); code != 200 || body != "blake3:00\n" {
		t.Errorf("the tag: %d %q", code, body)
	}
	code, body, head := ask(t, "GET", url+"/blobs/blake3/ab/abcd", "bytes=2-4")
	if code != 206 || body != "234" || head.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("a range of a blob: %d %q %q", code, body, head.Get("Content-Range"))
	}
	if head.Get("Content-Encoding") != "" || head.Get("Cache-Control") == "" {
		t.Errorf("the headers of a blob: %v", head)
	}
}

func TestHandlerGivesNothingElse(t *testing.T) {
	dir, url := served(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "tags", "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/tags/", "/tags", "/blobs/blake3/", "/leases/1", "/pins/debian", "/tags~", "/tags/link", "/tags/../leases/1", "/tags/%2e%2e/leases/1", "/windlass-store.json/"} {
		if code, body, _ := ask(t, "GET", url+path, ""); code == 200 {
			t.Errorf("GET %s: %d %q", path, code, body)
		}
	}
	if code, _, _ := ask(t, "PUT", url+"/tags/debian", ""); code != 405 {
		t.Errorf("PUT: %d", code)
	}
}
