package bootstage

import (
	"strings"
	"testing"
	"time"
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
		`{"mac":"52:54:00:aa:bb:cc","stage":"init","state":"asleep"}`:                          "state:",
		`{"mac":"52:54:00:aa:bb:cc","stage":"init","sent_ms":-1}`:                              "no node has been up",
		`{"mac":"52:54:00:aa:bb:cc","stage":"init"} {}`:                                        "behind",
		`{"mac":"52:54:00:aa:bb:cc","stage":"init","message":"` + strings.Repeat("x", MaxBody): "more than",
	} {
		if _, err := ParseReport([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", body, err, want)
		}
	}
}

func TestAReportThatComesLateSaysWhenItWas(t *testing.T) {
	came := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for body, want := range map[string]time.Duration{
		`"uptime_ms":900,"sent_ms":4400`:                3500 * time.Millisecond,
		`"uptime_ms":900,"sent_ms":900`:                 0,
		`"uptime_ms":900`:                               0, // a node that does not say when it sent it
		`"uptime_ms":900,"sent_ms":1`:                   0, // cannot be
		`"uptime_ms":1,"sent_ms":9223372036854775807`:   0,
		`"uptime_ms":0,"sent_ms":60000,"state":"begun"`: time.Minute,
	} {
		r, err := ParseReport([]byte(`{"mac":"52:54:00:aa:bb:cc","stage":"init",` + body + `}`))
		if got := came.Sub(r.At(came)); err != nil || got != want {
			t.Errorf("%s: %v before it came, want %v; %v", body, got, want, err)
		}
	}
}

func TestStateAndErrorSayTheSame(t *testing.T) {
	for body, want := range map[string]Report{
		`"message":"m"`:                          {State: Begun, Message: "m"},
		`"state":"done","message":"m"`:           {State: Done, Message: "m"},
		`"state":"failed","message":"m"`:         {State: Failed, Message: "m", Error: "m"},
		`"state":"failed"`:                       {State: Failed, Error: "the node does not say why"},
		`"error":"e"`:                            {State: Failed, Error: "e"},
		`"error":"e","state":"done"`:             {State: Failed, Error: "e"},
		`"error":"e","state":"failed"`:           {State: Failed, Error: "e"},
		`"state":"begun","error":"\u0007\u0007"`: {State: Begun},
	} {
		r, err := ParseReport([]byte(`{"mac":"52:54:00:aa:bb:cc","stage":"init",` + body + `}`))
		want.MAC, want.Stage = "52:54:00:aa:bb:cc", Init
		if err != nil || r != want {
			t.Errorf("%s: %+v, want %+v; %v", body, r, want, err)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"mac":"52:54:00:aa:bb:cc","stage":"init","time":"2026-01-02T03:04:05Z","message":"m","error":"e"}`))
	f.Add([]byte(`{"mac":"52:54:00:aa:bb:cc","stage":"init","state":"done","uptime_ms":900,"sent_ms":4400}`))
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
		came := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		if late := came.Sub(r.At(came)); late < 0 || late > MaxLate {
			t.Errorf("it was %s before it came", late)
		}
		if (r.State == Failed) != (r.Error != "") || r.State == "" {
			t.Errorf("state and error differ: %+v", r)
		}
		if r.Stage.Rank() < 0 || len(r.MAC) != 17 {
			t.Errorf("accepted %+v", r)
		}
	})
}
