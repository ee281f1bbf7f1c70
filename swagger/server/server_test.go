package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server/listen"
)

// logged is a log that a test can read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newServer(t testing.TB, chain Chain, config Config) (*Server, *logged) {
	t.Helper()
	out := &logged{}
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(logrus.DebugLevel)
	s, err := New(config, chain, log)
	if err != nil {
		t.Fatal(err)
	}
	return s, out
}

// serve listens on a unix socket and on http, and gives a client and base URL for each.
func serve(t testing.TB, chain Chain, config Config) (s *Server, clients map[string]*http.Client, urls map[string]string, log *logged) {
	t.Helper()
	zero := 0
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cert, key, pool := certificate(t, dir)
	config.Listen = listen.Config{
		Schemes: []string{"unix", "http", "https"}, SocketPath: socket, Port: &zero, TLSPort: &zero, TLSCertificate: cert, TLSKey: key,
	}
	s, log = newServer(t, chain, config)
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	clients = map[string]*http.Client{"unix": {Transport: &http.Transport{DialContext: dial}}, "http": {Transport: &http.Transport{}},
		"https": {Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	for _, c := range clients {
		t.Cleanup(c.CloseIdleConnections)
	}
	urls = map[string]string{"unix": "http://windlass", "http": "http://" + s.Listeners()[1].Addr().String(),
		"https": "https://" + s.Listeners()[2].Addr().String()}
	return s, clients, urls, log
}

// certificate makes files of httptest's own certificate, which is for 127.0.0.1.
func certificate(t testing.TB, dir string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	ts := httptest.NewTLSServer(http.NotFoundHandler())
	defer ts.Close()
	pair := ts.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AddCert(ts.Certificate())
	return cert, key, pool
}

// ask sends one request to the handler.
func ask(h http.Handler, method, path, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// errorIn reads the error object of an answer.
func errorIn(t testing.TB, status int, contentType string, body io.Reader) *models.Error {
	t.Helper()
	e := &models.Error{}
	if err := json.NewDecoder(body).Decode(e); err != nil || e.Message == nil || *e.Message == "" || e.RequestID == "" || e.Kind == "" {
		t.Fatalf("status %d: not an error object: %v %+v", status, err, e)
	}
	if contentType != "application/json" {
		t.Fatalf("status %d: Content-Type %q", status, contentType)
	}
	return e
}

const (
	base = "/imageapi/v1"
	disk = `{"kind":"local","local":{"path":"/dev/sda"}}`
)

func TestEveryMistakeHasItsStatusAndSaysWhat(t *testing.T) {
	s, _ := newServer(t, &fakeChain{}, Config{})
	for name, c := range map[string]struct {
		method, path, contentType, body string
		status                          int
		code                            int64
		says                            string
	}{
		"unknown path":        {"GET", "/nothing", "", "", 404, 404, "below /imageapi/v1"},
		"unknown path below":  {"GET", base + "/image", "", "", 404, 404, "no such path: " + base + "/image"},
		"slash too many":      {"GET", base + "/mount/", "", "", 404, 404, ""},
		"dots":                {"GET", base + "/../mount", "", "", 404, 404, ""},
		"wrong method":        {"PUT", base + "/mount", "", "", 405, 405, "it has DELETE, GET, POST"},
		"invented method":     {"BREW", base + "/info", "", "", 405, 405, "it has GET"},
		"form":                {"POST", base + "/attach", "application/x-www-form-urlencoded", disk, 415, 415, "send application/json"},
		"no type":             {"POST", base + "/attach", "", disk, 415, 415, "has no Content-Type"},
		"latin-1":             {"POST", base + "/attach", "application/json; charset=latin1", disk, 415, 415, "UTF-8"},
		"no body":             {"POST", base + "/attach", "", "", 400, 400, "body is empty"},
		"schema":              {"POST", base + "/attach", "application/json", `{"kind":"local","local":{}}`, 422, 602, "local.path in body is required"},
		"parts":               {"POST", base + "/attach", "application/json", `{}`, 400, 400, "exactly one"},
		"bad query":           {"GET", base + "/attach?id=x", "", "", 422, 601, "id in query"},
		"unknown query":       {"GET", base + "/attach?ids=1", "", "", 422, 616, "ids in query is not known"},
		"path no number":      {"GET", base + "/container/abc/log", "", "", 422, 601, "id in path"},
		"neither id nor name": {"DELETE", base + "/container", "", "", 400, 400, "either ID or Name must be provided"},
		"patch of neither":    {"PATCH", base + "/container?state=exited", "", "", 400, 400, "either ID or Name must be provided"},
		"create as dead":      {"POST", base + "/container", "application/json", `{"command":"x","mount":{"id":1},"state":"dead"}`, 400, 400, "created or running"},
		"no such document":    {"GET", base + "/docs/secrets.txt", "", "", 404, 404, "no file \"secrets.txt\""},
		"bad Last-Event-ID":   {"GET", base + "/event?since=-1", "", "", 422, 609, "since in query"},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(s.Handler(), c.method, c.path, c.contentType, c.body)
			e := errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body)
			if w.Code != c.status || e.Code != c.code || !strings.Contains(*e.Message, c.says) {
				t.Errorf("%d code %d %q; want %d code %d %q", w.Code, e.Code, *e.Message, c.status, c.code, c.says)
			}
			if allow := w.Header().Get("Allow"); (c.status == 405) != (allow != "") {
				t.Errorf("Allow: %q", allow)
			}
		})
	}
}

func TestEveryKindHasItsStatus(t *testing.T) {
	chain := &fakeChain{}
	s, _ := newServer(t, chain, Config{})
	for kind, want := range map[fault.Kind]int{
		fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404, fault.Exists: 409, fault.Busy: 409,
		fault.BadState: 409, fault.TooLarge: 413, fault.Corrupt: 422, fault.Throttled: 429, fault.Internal: 500, fault.Unsupported: 501,
		fault.Backend: 502, fault.Unavailable: 503, fault.Timeout: 504, "of the future": 500,
	} {
		chain.err = fault.Hintf(fault.New(kind, "mount /dev/loop7"), "do this")
		w := ask(s.Handler(), "DELETE", base+"/mount?id=1", "", "")
		e := errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body)
		if w.Code != want || e.Code != int64(want) || *e.Message != "mount /dev/loop7: do this" {
			t.Errorf("%s: %d %+v %s", kind, w.Code, e, *e.Message)
		}
		if retry := w.Header().Get("Retry-After") != ""; retry != (want == 503 || want == 429) {
			t.Errorf("%s: Retry-After is there: %v", kind, retry)
		}
	}
	chain.err = errors.New("some error")
	if w := ask(s.Handler(), "GET", base+"/mount", "", ""); w.Code != 500 {
		t.Errorf("a plain error: %d", w.Code)
	}
}

func TestAnswersFitTheContract(t *testing.T) {
	s, _ := newServer(t, &fakeChain{}, Config{})
	for _, path := range []string{"/attach", "/mount", "/container"} {
		if w := ask(s.Handler(), "GET", base+path, "", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("GET %s: %d %s, want an empty list", path, w.Code, w.Body)
		}
	}
	body := `{"name":"a","command":"/bin/true","namespaces":null,"mount":{"kind":"nfs","nfs":{"host":"h","path":"/p","options":null}}}`
	w := ask(s.Handler(), "POST", base+"/container", "application/json; charset=utf-8", body)
	if w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, part := range []string{`"namespaces":null`, `"options":null`, `"version":"4.2"`, `"id":1`} {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("%s lacks %s", w.Body, part)
		}
	}
	if id := w.Header().Get("X-Request-Id"); len(id) != 16 {
		t.Errorf("X-Request-Id %q", id)
	}
}

func TestRequestIDIsKeptWhenItIsPlain(t *testing.T) {
	s, _ := newServer(t, &fakeChain{}, Config{})
	for given, keep := range map[string]bool{"abc-1.2_Z": true, "a b": false, strings.Repeat("x", 65): false, "x\"y": false} {
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Header.Set("X-Request-Id", given)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if got := w.Header().Get("X-Request-Id"); (got == given) != keep {
			t.Errorf("%q became %q", given, got)
		}
	}
}

// Every operation of the contract is served, and below its base path nothing else but the documentation is.
func TestServedRoutesAreTheContract(t *testing.T) {
	s, _ := newServer(t, &fakeChain{}, Config{})
	want := map[servedRoute]bool{}
	for _, op := range s.contract.Operations() {
		want[servedRoute{op.Method, base + op.Path}] = true
	}
	for _, path := range []string{"/swagger.json", "/healthz", "/metrics", base + "/docs", base + "/docs/", base + "/docs/{file}"} {
		want[servedRoute{"GET", path}], want[servedRoute{"HEAD", path}] = true, true
	}
	for _, r := range s.served {
		if !want[r] {
			t.Errorf("%s %s is served but in no contract", r.method, r.path)
		}
		delete(want, r)
	}
	for r := range want {
		t.Errorf("%s %s is in the contract but not served", r.method, r.path)
	}
	if len(s.operations()) != len(s.contract.Operations()) {
		t.Error("there are operations that the contract does not know")
	}
}

func TestAPanicIsAnAnswerAndNoDeath(t *testing.T) {
	chain := &fakeChain{panics: true}
	_, clients, urls, log := serve(t, chain, Config{})
	for scheme, client := range clients {
		resp, err := client.Post(urls[scheme]+base+"/attach", "application/json", strings.NewReader(disk))
		if err != nil {
			t.Fatal(err)
		}
		e := errorIn(t, resp.StatusCode, resp.Header.Get("Content-Type"), resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 500 || strings.Contains(*e.Message, "a bug") || !strings.Contains(*e.Message, e.RequestID) {
			t.Errorf("%d %s", resp.StatusCode, *e.Message)
		}
		if !strings.Contains(log.String(), "fakeChain).Attach") {
			t.Error("the log has no stack")
		}
		if resp, err := client.Get(urls[scheme] + "/healthz"); err != nil || resp.StatusCode != 200 {
			t.Errorf("afterwards: %v %v", resp, err)
		} else {
			resp.Body.Close()
		}
	}
}

func TestSecretsAndBodiesAreNotLogged(t *testing.T) {
	s, log := newServer(t, &fakeChain{}, Config{})
	secret := "AQDqV1tkAAAAABAAzcI3"
	for _, body := range []string{
		`{"kind":"rbd","rbd":{"monitors":["m"],"pool":"p","image":"i","options":{"secret":"` + secret + `"}}}`,
		`{"kind":"rbd","rbd":{"monitors":["m"],"pool":"p","image":"i","options":{"secret":["` + secret + `"]}}}`,
		`{"kind":"rbd","rbd":{"monitors":["m"],"pool":"p","image":"i","options":{"secret":"` + secret + `\u0000"}}}`,
		`{"kind":"local","rbd":{"monitors":["m"],"pool":"p","image":"i","options":{"secret":"` + secret + `"}}}`,
		`{"kind":"rbd","rbd":{"options":{"secret":"` + secret + `"`,
	} {
		w := ask(s.Handler(), "POST", base+"/attach", "application/json", body)
		if w.Code >= 400 && strings.Contains(w.Body.String(), secret) {
			t.Errorf("the error tells the secret: %s", w.Body)
		}
	}
	ask(s.Handler(), "GET", base+"/container?name="+secret, "", "")
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log tells the secret:\n%s", log)
	}
	if !strings.Contains(log.String(), "dur_ms=") || !strings.Contains(log.String(), "status=201") {
		t.Errorf("the log lacks its fields:\n%s", log)
	}
}

func TestMetrics(t *testing.T) {
	asked := strfmt.DateTime(time.Now())
	status := &models.ChunkfsStatus{
		Asked: &asked, Image: "blake3:ab", Mode: "lazy", Fetched: 7, Amplification: 1.5, Rss: 99, Complete: true,
		Latency: []*models.ChunkfsBucket{{Le: 0.001, Count: 3}, {Le: 0.1, Count: 2}, {Count: 1}}, LatencySum: 1.25,
		Origins: []*models.ChunkfsHealth{{URL: "http://h/s", Healthy: true, LatencyMs: 2}, {URL: "http://h/s"}},
	}
	s, _ := newServer(t, &fakeChain{mounts: []*models.Mount{
		{ID: 12, Chunkfs: &models.MountChunkfs{Status: status}}, {ID: 13, Chunkfs: &models.MountChunkfs{}}, {ID: 14},
	}}, Config{})
	s.ObserveStep("loopback.configure", time.Millisecond, nil)
	s.ObserveStep("loopback.configure", time.Millisecond, errors.New("no"))
	ask(s.Handler(), "GET", base+"/container/1/log?x=1", "", "")
	ask(s.Handler(), "WEIRD", "/elsewhere/1", "", "")
	text := ask(s.Handler(), "GET", "/metrics", "", "").Body.String()
	for _, line := range []string{
		`windlass_objects{kind="mount",state="ready"} 3`,
		`windlass_processes_left_behind 1`,
		`windlass_step_duration_seconds_count{result="error",stage="loopback.configure"} 1`,
		`windlass_http_requests_total{code="422",method="GET",route="/imageapi/v1/container/{id}/log"} 1`,
		`windlass_http_requests_total{code="404",method="other",route="none"} 1`,
		`windlass_chunkfs_fetched_bytes_total{image="blake3:ab",mode="lazy",mount="12"} 7`,
		`windlass_chunkfs_amplification{image="blake3:ab",mode="lazy",mount="12"} 1.5`,
		`windlass_chunkfs_up{image="blake3:ab",mode="lazy",mount="12"} 1`,
		`windlass_chunkfs_read_duration_seconds_bucket{image="blake3:ab",mode="lazy",mount="12",le="0.1"} 5`,
		`windlass_chunkfs_read_duration_seconds_count{image="blake3:ab",mode="lazy",mount="12"} 6`,
		`windlass_chunkfs_read_duration_seconds_sum{image="blake3:ab",mode="lazy",mount="12"} 1.25`,
		`windlass_chunkfs_origin_latency_seconds{image="blake3:ab",mode="lazy",mount="12",origin="http://h/s"} 0.002`,
		"windlass_chunkfs_server_resident_bytes 99",
		"go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestDocumentation(t *testing.T) {
	_, clients, urls, _ := serve(t, &fakeChain{}, Config{})
	get := func(scheme, path string) (*http.Response, string) {
		resp, err := clients[scheme].Get(urls[scheme] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("GET %s: %d %v", path, resp.StatusCode, err)
		}
		return resp, string(body)
	}
	var doc struct {
		Host    string
		Schemes []string
	}
	_, text := get("http", "/swagger.json")
	if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Host != "" || len(doc.Schemes) != 1 || doc.Schemes[0] != "http" {
		t.Errorf("%+v %v", doc, err)
	}
	for _, path := range []string{"/docs", "/docs/"} {
		resp, page := get("unix", base+path)
		if !strings.Contains(page, base+"/docs/swagger-ui-bundle.js") || strings.Contains(page, "//") && strings.Contains(page, "http") {
			t.Errorf("the page is %s", page)
		}
		if !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Error("the page has no policy")
		}
	}
	if _, js := get("unix", base+"/docs/swagger-ui-bundle.js"); len(js) < 1_000_000 {
		t.Errorf("the script has %d bytes", len(js))
	}
}

func TestGraceReachesTheChain(t *testing.T) {
	chain := &fakeChain{}
	s, _ := newServer(t, chain, Config{})
	if w := ask(s.Handler(), "PATCH", base+"/container?name=a&state=exited&timeout=0", "", ""); w.Code != 200 || chain.grace == nil || *chain.grace != 0 {
		t.Errorf("%d, grace %v", w.Code, chain.grace)
	}
	ask(s.Handler(), "PATCH", base+"/container?name=a&state=exited", "", "")
	if chain.grace != nil {
		t.Errorf("grace %v, want none", chain.grace)
	}
}
