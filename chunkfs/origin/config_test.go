package origin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestBadConfigs(t *testing.T) {
	const secret = "s3cr3t"
	for name, c := range map[string]origin.Config{
		"empty":          {},
		"relative":       {URL: "some/dir"},
		"dots":           {URL: "/a/../b"},
		"scheme":         {URL: "ftp://host/"},
		"no host":        {URL: "http:///x"},
		"fragment":       {URL: "http://host/#" + secret},
		"not a URL":      {URL: "http://u:" + secret + "%zz@host/"},
		"file on a host": {URL: "file://host/x"},
		"file, password": {URL: "/x", Password: secret},
		"two users":      {URL: "http://u:" + secret + "@host/", Username: "u"},
		"two ways":       {URL: "http://host/", Username: "u", Token: secret},
		"colon":          {URL: "http://host/", Username: "u:v", Password: secret},
		"newline":        {URL: "http://host/", Token: secret + "\r\nX: y"},
		"CA":             {URL: "https://host/", CA: secret},
	} {
		_, err := origin.New([]origin.Config{c}, origin.Options{})
		if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := origin.New(nil, origin.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("none: %v", err)
	}
}

func TestMasked(t *testing.T) {
	c := origin.Config{URL: "https://u:pass-word@host/x?sig=signature", Token: "token-word", Password: "pass-word"}.Masked()
	for _, s := range []string{c.URL, c.Username, c.Password, c.Token} {
		if strings.Contains(s, "word") || strings.Contains(s, "signature") {
			t.Errorf("%+v", c)
		}
	}
	if !strings.Contains(c.URL, "host/x") {
		t.Errorf("%+v", c)
	}
}

// Credentials go to the server that they are for, and to no other; what it sends back of them is not shown.
func TestCredentials(t *testing.T) {
	im := newImage(t)
	var mu sync.Mutex
	seen := map[string][]string{}
	note := func(who string, h http.Handler) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			seen[who] = append(seen[who], r.Header.Get("Authorization")+" "+r.URL.RawQuery)
			mu.Unlock()
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	other := note("other", http.FileServer(http.Dir(im.dir)))
	first := note("first", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
	}))
	s, err := origin.New([]origin.Config{{URL: first.URL + "?sig=signature", Token: "token-word"}}, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := im.fetch(within(t, 5*time.Second), s, origin.Demand); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["first"][0] != "Bearer token-word sig=signature" || strings.TrimSpace(seen["other"][0]) != "" {
		t.Errorf("seen were %q", seen)
	}
}

func TestServerSendsSecretsBack(t *testing.T) {
	im := newImage(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := r.Header.Get("Authorization") + r.URL.RawQuery
		switch r.Header.Get("Range") {
		case "":
			_, _ = w.Write([]byte(all))
		default:
			w.Header().Set("Content-Range", all)
			w.Header().Set("Content-Type", all)
			w.WriteHeader(http.StatusPartialContent)
		}
	}))
	t.Cleanup(srv.Close)
	s, err := origin.New([]origin.Config{{URL: srv.URL + "?sig=signature", Token: "token-word"}}, origin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, err := range []error{im.fetch(within(t, 2*time.Second), s, origin.Demand), third(s.Tag(within(t, 2*time.Second), "a"))} {
		if err == nil || strings.Contains(err.Error(), "token-word") || strings.Contains(err.Error(), "signature") {
			t.Errorf("the error is %v", err)
		}
	}
	if h := s.Health()[0]; strings.Contains(h.LastError+h.URL, "token-word") || strings.Contains(h.LastError+h.URL, "signature") {
		t.Errorf("the health is %+v", h)
	}
}
