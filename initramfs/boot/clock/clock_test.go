package clock

import (
	"encoding/binary"
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
		if r, err := Adjust(t.Context(), c.config([]string{timeServer(t, off, nil)}, nil)); err == nil || !strings.Contains(err.Error(), "cannot be") || r.Set {
			t.Errorf("%+v, %v", r, err)
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

func TestNobodyToAsk(t *testing.T) {
	if _, err := Adjust(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "windlass.ntp") {
		t.Error(err)
	}
}

func TestTheEraThatBeginsIn2036(t *testing.T) {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, 1000)
	if y := stamp(b).Year(); y != 2036 {
		t.Errorf("%d", y)
	}
}
