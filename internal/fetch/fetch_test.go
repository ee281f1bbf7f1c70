package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
)

// quick fails fast: the servers are on loopback.
var quick = fetch.Timing{Connect: 2 * time.Second, Header: 2 * time.Second, Stall: 150 * time.Millisecond, Pause: time.Millisecond, Longest: 5 * time.Millisecond, Tries: 4}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(b)
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// read fetches the whole of uri and checks its digest.
func read(ctx context.Context, t *testing.T, c *fetch.Client, uri string, o fetch.Options, want string) ([]byte, error) {
	t.Helper()
	src, err := fetch.Parse("uri", uri)
	if err != nil {
		return nil, err
	}
	b, err := c.Open(ctx, src, o)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err != nil {
		return got, err
	}
	return got, b.Verify(want)
}

func client() *fetch.Client { return fetch.New(fetch.Config{Timing: quick}) }

// cutter serves data and closes the connection after every cut bytes. It keeps what it was asked for.
type cutter struct {
	mu     sync.Mutex
	data   []byte
	cut    int
	etag   string
	ranges bool
	asked  []string
	on     func(n int) // called with the number of the request
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r.Header.Get("Range"))
	if c.on != nil {
		c.on(len(c.asked))
	}
	from := 0
	if c.etag != "" {
		w.Header().Set("Etag", c.etag)
	}
	if rg := r.Header.Get("Range"); c.ranges && rg != "" && (r.Header.Get("If-Range") == "" || r.Header.Get("If-Range") == c.etag) {
		from, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(rg, "bytes="), "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(c.data)-1, len(c.data)))
		w.Header().Set("Content-Length", strconv.Itoa(len(c.data)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(c.data)))
	}
	part := c.data[from:]
	if c.cut > 0 && len(part) > c.cut {
		_, _ = w.Write(part[:c.cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(part)
}

func TestResume(t *testing.T) {
	data := content(3 << 20)
	for name, tc := range map[string]struct {
		etag       string
		ranges     bool
		sealed     bool
		loose      bool
		wantRanges bool
		firstCut   bool // only the first connection breaks
	}{
		"with an ETag":                      {etag: `"one"`, ranges: true, wantRanges: true},
		"without, but the digest is known":  {ranges: true, sealed: true, wantRanges: true},
		"without and no digest: from 0":     {ranges: true, firstCut: true},
		"a weak ETag is not used":           {etag: `W/"one"`, ranges: true, firstCut: true},
		"the server ignores the range":      {etag: `"one"`, wantRanges: true, firstCut: true},
		"the same, without a digest":        {etag: `"one"`, loose: true, wantRanges: true, firstCut: true},
		"it ignores the range, digest only": {sealed: true, wantRanges: true, firstCut: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cutter{data: data, cut: 700_000, etag: tc.etag, ranges: tc.ranges}
			if tc.firstCut {
				c.on = func(n int) {
					if n > 1 {
						c.cut = 0
					}
				}
			}
			s := serve(t, c.ServeHTTP)
			want := digest(data)
			if tc.loose {
				want = ""
			}
			got, err := read(t.Context(), t, client(), s.URL+"/image", fetch.Options{Sealed: tc.sealed, Loose: tc.loose}, want)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Fatal("other bytes came")
			}
			if len(c.asked) < 2 || (c.asked[1] != "") != tc.wantRanges {
				t.Fatalf("asked for ranges %q, want ranges: %v", c.asked, tc.wantRanges)
			}
		})
	}
}

// TestLoose holds that what was read without a digest never passes for what has one.
func TestLoose(t *testing.T) {
	data := content(100_000)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	if _, err := read(t.Context(), t, client(), s.URL, fetch.Options{Loose: true}, digest(data)); !fault.Is(err, fault.Internal) {
		t.Errorf("%v", err)
	}
	if got, err := read(t.Context(), t, client(), s.URL, fetch.Options{Loose: true}, ""); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestChangedMeanwhile(t *testing.T) {
	for name, change := range map[string]func(*cutter){
		"another ETag":             func(c *cutter) { c.etag = `"two"` },
		"another size":             func(c *cutter) { c.etag, c.data = "", c.data[:1_500_000] },
		"other bytes, no ETag":     func(c *cutter) { c.etag, c.data = "", bytes.Repeat([]byte("x"), 2_000_000) },
		"shorter than what we had": func(c *cutter) { c.etag, c.data, c.ranges = "", c.data[:1000], true },
	} {
		for _, loose := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, loose %v", name, loose), func(t *testing.T) {
				c := &cutter{data: content(2_000_000), cut: 600_000, etag: `"one"`}
				c.on = func(n int) {
					if n == 2 {
						c.cut = 0
						change(c)
					}
				}
				s := serve(t, c.ServeHTTP)
				_, err := read(t.Context(), t, client(), s.URL, fetch.Options{Loose: loose}, "")
				if !errors.Is(err, fetch.ErrChanged) {
					t.Fatalf("got %v, want ErrChanged", err)
				}
			})
		}
	}
}

func TestRetries(t *testing.T) {
	data := content(1000)
	n := 0
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n < 3 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(data)
	})
	if got, err := read(t.Context(), t, client(), s.URL, fetch.Options{}, ""); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("500, 500, 200 gave %v", err)
	}
}

func TestBadAnswers(t *testing.T) {
	hits := 0
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { hits++; w.WriteHeader(code) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		kind fault.Kind
		want string
		hits int // 0: not counted
	}{
		"404":                   {status(404), fault.NotFound, "404 Not Found", 1},
		"401":                   {status(401), fault.Backend, "401 Unauthorized", 1},
		"403":                   {status(403), fault.Backend, "403 Forbidden", 1},
		"400":                   {status(400), fault.Backend, "400 Bad Request", 1},
		"204":                   {status(204), fault.Backend, "204 No Content", 1},
		"206 unasked":           {status(206), fault.Backend, "206", 1},
		"500 for ever":          {status(500), fault.Backend, "after 4 tries: the server answers 500", 4},
		"redirect to itself":    {redirect("/"), fault.Backend, "in a circle", 0},
		"redirect to a file":    {redirect("file:///etc/shadow"), fault.Backend, "only http and https", 0},
		"redirect to nothing":   {redirect(""), fault.Backend, "what is no URL", 0},
		"redirect to no host":   {redirect("http:///x"), fault.Backend, "only http and https", 0},
		"redirect to half a pw": {redirect("http://u:s3cret/@x/%zz"), fault.Backend, "what is no URL", 0},
		"redirects without end": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, fault.Backend, "more than 10 redirects", 0},
		"bigger than said": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content(200)) }, fault.TooLarge, "has 200 bytes; the limit is 100", 0},
		"bigger, unsaid": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				_, _ = w.Write(content(10000))
				w.(http.Flusher).Flush()
			}
		}, fault.TooLarge, "goes on after 100 bytes", 0},
		"less than it says, for ever": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "90")
			_, _ = w.Write([]byte("short"))
		}, fault.Backend, "given up at byte 5", 0},
		"a huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, fault.Backend, "given up", 0},
		"never a byte": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, fault.Backend, "no byte came for", 0},
	} {
		t.Run(name, func(t *testing.T) {
			hits = 0
			s := serve(t, tc.h)
			_, err := read(t.Context(), t, client(), s.URL, fetch.Options{Limit: 100}, "")
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v (%s), want %s with %q", err, fault.KindOf(err), tc.kind, tc.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Fatalf("the error shows a secret: %v", err)
			}
			if tc.hits > 0 && hits != tc.hits {
				t.Fatalf("%d requests, want %d", hits, tc.hits)
			}
		})
	}
}

func TestWrongDigest(t *testing.T) {
	data := content(1000)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	want := digest([]byte("something else"))
	_, err := read(t.Context(), t, client(), s.URL, fetch.Options{}, want)
	if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), digest(data)) {
		t.Fatalf("got %v, want Corrupt with both digests", err)
	}
}

func TestContentEncodingIsNotDecoded(t *testing.T) {
	data := []byte("\x1f\x8bnot really gzip")
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Accept-Encoding"); e != "identity" {
			t.Errorf("Accept-Encoding %q", e)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(data)
	})
	if got, err := read(t.Context(), t, client(), s.URL, fetch.Options{}, digest(data)); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestStallIsResumed(t *testing.T) {
	data := content(100_000)
	n := 0
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"e"`)
		if n++; n > 1 {
			http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(data))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:5000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	if got, err := read(t.Context(), t, client(), s.URL, fetch.Options{}, digest(data)); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
}

func TestSlowDripEndsWithContext(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := read(ctx, t, client(), s.URL, fetch.Options{}, "")
	if !fault.Is(err, fault.Timeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v (%s), want Timeout", err, fault.KindOf(err))
	}
	if d := time.Since(begun); d > 2*time.Second {
		t.Fatalf("it took %v", d)
	}
}

func TestCredentials(t *testing.T) {
	const uri = "/image?token=s3cret"
	var elsewhere *httptest.Server
	check := func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != "kim" || p != "s3cret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/image":
			_, _ = w.Write([]byte("ok"))
		case "/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		}
	}
	s := serve(t, check)
	elsewhere = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("another server was told %v", r.Header)
		}
		_, _ = w.Write([]byte("ok"))
	})
	host := strings.TrimPrefix(s.URL, "http://")
	for _, p := range []string{uri, "/away?token=s3cret"} {
		if _, err := read(t.Context(), t, client(), "http://kim:s3cret@"+host+p, fetch.Options{}, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{
		"http://kim:s3cret@" + host + "/gone?token=s3cret", "http://jo:s3cret@" + host + uri, "http://kim:s3cret@127.0.0.1:1/x",
		"http://kim:s3cret/@host/", "http://kim:s3cret@host:port/", "ftp://kim:s3cret@host/", "http://kim:s3cret@/x", "http://h/%zzs3cret",
	} {
		_, err := read(t.Context(), t, client(), bad, fetch.Options{}, digest(nil))
		if err == nil || strings.Contains(err.Error()+fault.HintOf(err), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", bad, err)
		}
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			w.Header().Set("Location", "http://"+r.Host+"/")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		_, _ = w.Write([]byte("ok"))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // the handshakes fail on purpose
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := read(t.Context(), t, client(), s.URL, fetch.Options{}, "")
	if !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "certificate") || fault.HintOf(err) == "" {
		t.Fatalf("unknown CA: %v", err)
	}
	trusting := fetch.New(fetch.Config{Timing: quick, ExtraCAs: []*x509.Certificate{s.Certificate()}})
	if _, err := read(t.Context(), t, trusting, s.URL, fetch.Options{}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t.Context(), t, trusting, s.URL+"/down", fetch.Options{}, ""); !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "encryption") {
		t.Fatalf("redirect to http: %v", err)
	}
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := read(t.Context(), t, client(), strings.Replace(plain.URL, "http", "https", 1), fetch.Options{}, ""); !fault.Is(err, fault.Backend) {
		t.Fatalf("https to http: %v", err)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	data := content(300_000)
	path := filepath.Join(dir, "a b?c")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t.Context(), t, client(), "file://"+dir+"/a%20b%3Fc", fetch.Options{}, digest(data)); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		uri  string
		kind fault.Kind
	}{
		"missing":     {"file://" + dir + "/none", fault.NotFound},
		"below file":  {"file:///etc/passwd/x", fault.NotFound},
		"directory":   {"file://" + dir, fault.Invalid},
		"fifo":        {"file://" + fifo, fault.Invalid},
		"device":      {"file:///dev/zero", fault.Invalid},
		"relative":    {"file:etc/passwd", fault.Invalid},
		"host":        {"file://host/etc/passwd", fault.Invalid},
		"dots":        {"file:///etc/../etc/passwd", fault.Invalid},
		"encoded dot": {"file:///etc/%2e%2e/passwd", fault.Invalid},
		"nul":         {"file:///etc/%00passwd", fault.Invalid},
		"root":        {"file:///", fault.Invalid},
		"query":       {"file:///a?b", fault.Invalid},
		"no scheme":   {"/etc/passwd", fault.Invalid},
		"no host":     {"http:///x", fault.Invalid},
		"too big":     {"file://" + dir + "/a%20b%3Fc", fault.TooLarge},
	} {
		if _, err := read(t.Context(), t, client(), tc.uri, fetch.Options{Limit: 1000}, ""); !fault.Is(err, tc.kind) {
			t.Errorf("%s: got %v (%s), want %s", name, err, fault.KindOf(err), tc.kind)
		}
	}
}

func TestProgress(t *testing.T) {
	data := content(1 << 20)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		for i := 0; i < len(data); i += 1 << 14 {
			_, _ = w.Write(data[i : i+1<<14])
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	var calls int
	var last, total int64
	begun := time.Now()
	_, err := read(t.Context(), t, client(), s.URL, fetch.Options{Progress: func(d, tot int64) { calls++; last, total = d, tot }}, "")
	if err != nil {
		t.Fatal(err)
	}
	if most := int(time.Since(begun)/(200*time.Millisecond)) + 2; calls < 2 || calls > most {
		t.Errorf("%d words of progress in %v", calls, time.Since(begun))
	}
	if last != int64(len(data)) || total != last {
		t.Errorf("the last was %d of %d", last, total)
	}
}
