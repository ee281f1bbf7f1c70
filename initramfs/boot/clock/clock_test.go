package clock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// timeServer answers with a time, or with what broken makes of the answer.
func timeServer(t *testing.T, off time.Duration, broken func([]byte)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if n != 48 {
				continue
			}
			a := make([]byte, 48)
			a[0], a[1] = 4<<3|4, 2
			copy(a[24:], b[40:48])
			now := time.Now().Add(off)
			for _, at := range []int{32, 40} {
				binary.BigEndian.PutUint32(a[at:], uint32(now.Unix()-epoch.Unix()))
				binary.BigEndian.PutUint32(a[at+4:], uint32(uint64(now.Nanosecond())<<32/1e9))
			}
			if broken != nil {
				broken(a)
			}
			_, _ = conn.WriteTo(a, from)
		}
	}()
	return conn.LocalAddr().String()
}

// clocked is a clock that is off from that of this machine.
type clocked struct{ off, set time.Duration }

func (c *clocked) config(servers, urls []string) Config {
	return Config{Servers: servers, URLs: urls, Timeout: 3 * time.Second, Now: func() time.Time { return time.Now().Add(c.off) },
		Set: func(t time.Time) error { c.set = time.Until(t); return nil }}
}

// base makes the tests independent of the clock of the machine that they run on.
func base() time.Duration { return time.Until(Floor().Add(365 * 24 * time.Hour)) }

func TestAClockThatIsBehindIsSet(t *testing.T) {
	for name, behind := range map[string]time.Duration{"years": 30 * 365 * 24 * time.Hour, "an hour": time.Hour} {
		c := &clocked{off: base() - behind}
		r, err := Adjust(t.Context(), c.config([]string{"127.0.0.1:1", timeServer(t, base(), nil)}, nil))
		if err != nil || !r.Set || (r.Off-behind).Abs() > time.Second || (c.set-base()).Abs() > time.Second {
			t.Errorf("%s: %+v, %v, set to %v", name, r, err, c.set)
		}
	}
}

func TestAClockThatIsAheadIsLeft(t *testing.T) {
	c := &clocked{off: base() + time.Hour}
	if r, err := Adjust(t.Context(), c.config([]string{timeServer(t, base(), nil)}, nil)); err != nil || r.Set || r.Off > -59*time.Minute {
		t.Errorf("%+v, %v", r, err)
	}
	c = &clocked{off: base() + 2*lifetime} // unless it cannot be
	if r, err := Adjust(t.Context(), c.config([]string{timeServer(t, base(), nil)}, nil)); err != nil || !r.Set {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestATimeThatCannotBeIsNotBelieved(t *testing.T) {
	for _, off := range []time.Duration{base() - 2*365*24*time.Hour, base() - 20*365*24*time.Hour} {
		c := &clocked{off: -time.Duration(time.Now().UnixNano())} // 1970
		r, err := Adjust(t.Context(), c.config([]string{timeServer(t, off, nil)}, nil))
		if err == nil || !strings.Contains(err.Error(), "cannot be") || !r.Set || (c.set-time.Until(Floor())).Abs() > time.Second {
			t.Errorf("%+v, %v, set to %v", r, err, c.set)
		}
		c = &clocked{off: base()} // this one can be right
		if r, err := Adjust(t.Context(), c.config([]string{timeServer(t, off, nil)}, nil)); err == nil || r.Set || c.set != 0 {
			t.Errorf("%+v, %v, set to %v", r, err, c.set)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, broken := range map[string]func([]byte){
		"to somebody else": func(a []byte) { a[24] ^= 1 }, "kiss of death": func(a []byte) { a[1] = 0 },
		"not synchronised": func(a []byte) { a[0] |= 3 << 6 }, "not of a server": func(a []byte) { a[0]++ },
	} {
		c := (&clocked{off: base()}).config([]string{timeServer(t, base(), broken)}, nil)
		c.Timeout = 300 * time.Millisecond
		if _, err := Adjust(t.Context(), c); err == nil {
			t.Errorf("%s: it was believed", name)
		}
	}
}

func TestTheDateOfAWebServer(t *testing.T) {
	date := func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok || r.Method != http.MethodHead {
			t.Errorf("%s with a password", r.Method)
		}
		w.Header().Set("Date", time.Now().Add(base()).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
	}
	plain, secure := httptest.NewServer(http.HandlerFunc(date)), httptest.NewTLSServer(http.HandlerFunc(date))
	defer plain.Close()
	defer secure.Close()
	for _, u := range []string{plain.URL, secure.URL} {
		c := &clocked{off: base() - time.Hour}
		withPassword := strings.Replace(u, "://", "://user:hunter2@", 1)
		r, err := Adjust(t.Context(), c.config([]string{"127.0.0.1:1"}[:0], []string{"http://127.0.0.1:1/", withPassword}))
		if err != nil || !r.Set || (r.Off-time.Hour).Abs() > 3*time.Second || strings.Contains(r.From, "hunter2") {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// site is a web server whose certificate an authority of the site has made, valid since yesterday by a clock that is off by so much.
func site(t *testing.T, off time.Duration) (url string, roots *x509.CertPool) {
	t.Helper()
	since := time.Now().Add(off - 24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, NotBefore: since, NotAfter: since.AddDate(5, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "web"}, NotBefore: since, NotAfter: since.AddDate(1, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, keys[0].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, keys[1].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: keys[1]}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, roots
}

// get fetches as a node whose clock is off by so much does. The kernel's clock is everybody's, so it is not the one that is set here.
func get(url string, roots *x509.CertPool, off time.Duration) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Time: func() time.Time { return time.Now().Add(off) }}}}
	resp, err := client.Get(url)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// TestANodeOfTheYear2000CanUseTLS has a battery that is flat, and a site with certificates of its own.
func TestANodeOfTheYear2000CanUseTLS(t *testing.T) {
	url, roots := site(t, base())
	year2000 := time.Until(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(base()).UTC().Format(http.TimeFormat))
	}))
	defer plain.Close()
	for name, from := range map[string]struct{ servers, urls []string }{
		"a time server":     {[]string{timeServer(t, base(), nil)}, nil},
		"a plain server":    {nil, []string{plain.URL}},
		"the server itself": {nil, []string{url}},
	} {
		c := &clocked{off: year2000}
		var invalid x509.CertificateInvalidError
		if err := get(url, roots, c.off); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
			t.Fatalf("%s: before: %v", name, err)
		}
		if r, err := Adjust(t.Context(), c.config(from.servers, from.urls)); err != nil || !r.Set {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		if err := get(url, roots, c.set); err != nil {
			t.Errorf("%s: after: %v", name, err)
		}
	}
}

func TestNobodyToAsk(t *testing.T) {
	c := &clocked{off: base()} // never the clock of this machine, which may be behind
	if r, err := Adjust(t.Context(), c.config(nil, nil)); err == nil || !strings.Contains(err.Error(), "windlass.ntp") || r.Set {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestTheEraThatBeginsIn2036(t *testing.T) {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, 1000)
	if y := stamp(b).Year(); y != 2036 {
		t.Errorf("%d", y)
	}
}
