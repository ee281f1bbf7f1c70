package bootstage

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestStagesHaveAnOrder(t *testing.T) {
	for i, s := range All() {
		if s.Rank() != i {
			t.Errorf("%s has rank %d, not %d: it is there twice", s, s.Rank(), i)
		}
	}
	if !Lease.Before(Running) || Running.Before(Lease) || !Stage("none").Before(Discover) {
		t.Error("the order is wrong")
	}
}

func TestParseReport(t *testing.T) {
	r, err := ParseReport([]byte(`{"mac":"52-54-00-AA-BB-CC","stage":"image","time":"2026-01-02T03:04:05+01:00","message":"a\n\u001b[31mb","error":"` +
		strings.Repeat("ä", 2000) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.MAC != "52:54:00:aa:bb:cc" || r.Message != "a [31mb" || len(r.Error) > MaxText || !utf8.ValidString(r.Error) || r.Time.Hour() != 2 {
		t.Errorf("the report came out as %+v", r)
	}
	for body, want := range map[string]string{
		``:   "not JSON",
		`[]`: "not JSON",
		`{}`: "no Ethernet address",
		`{"mac":"00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01","stage":"init"}`: "no Ethernet address",
		`{"mac":"52:54:00:aa:bb:cc","stage":"lunch"}`:                                          "none of",
		`{"mac":"52:54:00:aa:bb:cc","stage":"init"} {}`:                                        "behind",
		`{"mac":"52:54:00:aa:bb:cc","stage":"init","message":"` + strings.Repeat("x", MaxBody): "more than",
	} {
		if _, err := ParseReport([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", body, err, want)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"mac":"52:54:00:aa:bb:cc","stage":"init","time":"2026-01-02T03:04:05Z","message":"m","error":"e"}`))
	f.Add([]byte(`{"mac":null,"stage":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseReport(body)
		if err != nil {
			return
		}
		for _, s := range []string{r.MAC, r.Message, r.Error} {
			if len(s) > MaxText || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("not a short printable line: %q", s)
			}
		}
		if r.Stage.Rank() < 0 || len(r.MAC) != 17 {
			t.Errorf("accepted %+v", r)
		}
	})
}
