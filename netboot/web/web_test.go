package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/script"
)

type noMeter struct{}

func (noMeter) Request(string, string, int, int64) {}
func (noMeter) Reported(bootstage.Stage, bool)     {}

func newServer(t testing.TB, more string) (*Server, *strings.Builder) {
	t.Helper()
	c, err := config.Parse("/n.yaml", []byte(`
files: /
groups: {a: {kernel: k}}
nodes: [{name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11, group: a}, {name: n2, mac: "52:54:00:00:00:02", group: a}]
`+more))
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := script.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	none, err := publish.New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	said := &strings.Builder{}
	log := logrus.New()
	log.SetOutput(said)
	n1 := netip.MustParseAddr("10.1.0.11")
	return New(Options{
		Site: c, Scripts: scripts, Nodes: nodes.New([]nodes.Listed{{MAC: "52:54:00:00:00:01", Name: "n1", IP: n1}, {MAC: "52:54:00:00:00:02", Name: "n2"}}, nil),
		Address: func(mac string) (netip.Addr, bool) { return n1, mac == "52:54:00:00:00:01" },
		Owner:   func(a netip.Addr) (string, bool) { return "52:54:00:00:00:01", a == n1 },
		Files:   none, Images: none, Programs: none, Log: log, Meter: noMeter{},
	}), said
}

func (s *Server) ask(method, url, from, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.RemoteAddr = from + ":4711"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

// subnets are the networks of a site.
const subnets = "subnets: [{subnet: 10.1.0.0/24}, {subnet: 10.2.0.0/24}]\n"

func TestARefusalSaysHowToAllowIt(t *testing.T) {
	s, _ := newServer(t, subnets)
	for from, word := range map[string]string{"10.3.0.12": "subnets", "10.1.0.11": "another node"} {
		mac := map[string]string{"10.3.0.12": "52:54:00:00:00:01", "10.1.0.11": "52:54:00:00:00:02"}[from]
		w := s.ask("POST", "/report", from, `{"mac":"`+mac+`","stage":"init"}`)
		if body := w.Body.String(); w.Code != 403 || !strings.Contains(body, word) || !strings.Contains(body, "check_source: false") {
			t.Errorf("from %s: %d %s", from, w.Code, body)
		}
	}
}

func TestWhoMayAskForWhat(t *testing.T) {
	const n1, n2 = "/boot/ipxe?mac=52:54:00:00:00:01", "/boot/ipxe?mac=52-54-00-00-00-02"
	for _, c := range []struct {
		more, url, from string
		code            int
	}{
		{"", n1, "10.1.0.11", 200}, {"", n1, "10.1.0.12", 403}, {"", n1, "127.0.0.1", 200}, {"", n2, "10.1.0.11", 403}, {"", n2, "10.1.0.12", 200},
		{"", "/boot/ipxe?mac=52:54:00:00:00:03", "10.1.0.12", 404}, {"http: {check_source: false}\n", n1, "10.1.0.12", 200},
		{"", "/nodes", "10.1.0.12", 200}, {"http: {status_from: [10.1.0.12/32]}\n", "/nodes", "10.1.0.12", 200},
		{"http: {status_from: [10.1.0.12/32]}\n", "/nodes", "10.1.0.13", 403}, {"http: {status_from: [10.1.0.12/32]}\n", "/events", "127.0.0.1", 200},
		{"http: {status_from: [10.1.0.12/32]}\n", "/healthz", "10.1.0.13", 200},
		// a node that has more than one address, such as on a VLAN
		{subnets, n1, "10.1.0.12", 200}, {subnets, n1, "10.2.0.12", 200}, {subnets, n1, "10.3.0.12", 403}, {subnets, n2, "10.1.0.11", 403},
	} {
		s, _ := newServer(t, c.more)
		if w := s.ask("GET", c.url, c.from, ""); w.Code != c.code {
			t.Errorf("%s%s from %s: %d %s", c.more, c.url, c.from, w.Code, w.Body)
		}
	}
}

func TestReportsAreCountedAgainstWhoSendsThem(t *testing.T) {
	s, said := newServer(t, "")
	var throttled int
	for range 10 * reportBurst {
		if w := s.ask("POST", "/report", "10.1.0.66", "{}"); w.Code == http.StatusTooManyRequests {
			throttled++
		}
	}
	if throttled < 5*reportBurst {
		t.Errorf("of %d reports %d were refused as too many", 10*reportBurst, throttled)
	}
	if n := strings.Count(said.String(), "\n"); n > 3 {
		t.Errorf("that made %d lines", n)
	}
	if w := s.ask("POST", "/report", "10.1.0.11", `{"mac":"52:54:00:00:00:01","stage":"init"}`); w.Code != 204 {
		t.Errorf("another node is refused too: %d %s", w.Code, w.Body)
	}
}

// Who has reported too much is not forgotten for all the others that report, and does not become somebody else by another address.
func TestOneHostIsNotForgottenForOthers(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRates(func() time.Time { return now })
	hog := netip.MustParseAddr("10.1.0.66")
	for range reportBurst {
		r.allow(hog)
	}
	for i := range 3 * maxSources {
		r.allow(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}))
		if i%100 == 0 && r.allow(hog) {
			t.Fatalf("after %d others it may report again", i)
		}
	}
	if len(r.by) != maxSources || r.order.Len() != maxSources {
		t.Errorf("%d hosts are remembered, in a list of %d", len(r.by), r.order.Len())
	}
	allowed := 0
	for i := range 10 * reportBurst {
		if r.allow(netip.AddrFrom16([16]byte{0x20, 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})) {
			allowed++
		}
	}
	if allowed != reportBurst {
		t.Errorf("a host with many addresses sent %d reports at once", allowed)
	}
	if now = now.Add(time.Second); !r.allow(hog) {
		t.Error("a second later it may still not")
	}
}

func TestErrorsAreJSON(t *testing.T) {
	s, _ := newServer(t, "")
	var body struct{ Kind, Error string }
	w := s.ask("GET", "/files/.ssh/id", "10.1.0.11", "")
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 403 || body.Kind != "forbidden" || body.Error == "" {
		t.Errorf("%d %v %+v", w.Code, err, body)
	}
}

// A node that does not read is cut off: this asks that a deadline is set, by a connection whose writes fail after it.
func TestASlowNodeIsCutOff(t *testing.T) {
	s, _ := newServer(t, "")
	s.o.Now = func() time.Time { return time.Now().Add(-2 * slack) } // the deadline has passed already
	h := httptest.NewServer(s.Handler())
	defer h.Close()
	resp, err := http.Get(h.URL + "/nodes")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("nothing was cut off")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("/boot/ipxe", "mac=52:54:00:00:00:01", "")
	f.Add("/report", "", `{"mac":"52:54:00:00:00:01","stage":"init","message":"x"}`)
	f.Add("/files/../x", "a=%zz", "")
	f.Add("/nodes", "format=table", "")
	s, _ := newServer(f, "")
	s.o.Log.(*logrus.Logger).SetOutput(io.Discard)
	h := s.Handler()
	f.Fuzz(func(t *testing.T, path, query, body string) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL.Path, r.URL.RawQuery = "/"+strings.TrimPrefix(path, "/"), query
			r.RemoteAddr = "10.1.0.11:4711"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s %q?%q: %d %s", method, path, query, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "#!ipxe") && strings.Count(w.Body.String(), "\n") != 10 {
				t.Errorf("a line more in the script: %s", w.Body)
			}
		}
	})
}

func TestAWatchdogIsToldWhatIsAmiss(t *testing.T) {
	s, _ := newServer(t, "")
	if w := s.ask("GET", "/healthz", "127.0.0.1", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	var amiss error
	s.o.Health = func() error { return amiss }
	if w := s.ask("GET", "/healthz", "127.0.0.1", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"ok":true`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	amiss = errors.New("eth7 is gone")
	if w := s.ask("GET", "/healthz", "127.0.0.1", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "eth7 is gone") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
