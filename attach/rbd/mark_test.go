package rbd

import (
	"strings"
	"testing"
	"time"
)

const markedLine = "10.0.0.1:6789 name=admin,secret=TOPSECRET rbd debian - key:0123456789abcdef0123456789abcdef windlass:windlass-0a1b2c:12\n"

func TestParseMark(t *testing.T) {
	got, ok := parseMark(markedLine)
	want := mark{key: "0123456789abcdef0123456789abcdef", instance: "windlass-0a1b2c", id: 12}
	if !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	for _, line := range []string{
		"", "\n", "10.0.0.1 name=admin rbd debian -",
		strings.Replace(markedLine, ":12", ":0", 1), strings.Replace(markedLine, ":12", ":-1", 1), strings.Replace(markedLine, ":12", ":012", 1),
		strings.Replace(markedLine, ":12", ":99999999999999999999", 1), strings.Replace(markedLine, ":12", "", 1), strings.Replace(markedLine, ":12", ":12:1", 1),
		strings.Replace(markedLine, "key:0", "key:", 1), strings.Replace(markedLine, "key:0", "key:/", 1), strings.Replace(markedLine, "key:0", "key:G", 1),
		strings.Replace(markedLine, "windlass-0a1b2c", "", 1), strings.Replace(markedLine, " - ", " ", 1), strings.Replace(markedLine, "\n", " more", 1),
		strings.Replace(markedLine, " windlass:", " other:", 1),
	} {
		if got, ok := parseMark(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// FuzzParseMark holds that nothing but what was written by this package is read, and nothing of the rest of the line.
func FuzzParseMark(f *testing.F) {
	f.Add(markedLine)
	f.Add("a b c d e key:0123456789abcdef0123456789abcdef windlass:x:1")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMark(line)
		if !ok {
			return
		}
		if !isShareKey(m.key) || m.instance == "" || strings.ContainsAny(m.instance, ": /\n") && strings.Contains(m.instance, ":") || m.id <= 0 {
			t.Errorf("%q: %+v", line, m)
		}
		words := strings.Fields(line)
		if m.String() != strings.Join(words[len(words)-2:], " ") {
			t.Errorf("%q: %+v is written %s", line, m, m)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n")
	f.Add("1 2 3 4 5 6 7 8 9 10 11\n")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, text string) {
		if s, ok := parseStat(text, time.Now()); ok && len(strings.Fields(text)) < 9 {
			t.Errorf("%q: %+v", text, s)
		}
	})
}

func FuzzParseMonitor(f *testing.F) {
	for _, s := range []string{"10.0.0.1:6789/0", "[fd00::1]:1", "[v2:a:1/0,v1:b:2/0]", "v1:v1:1", "a"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, text string, v2 bool) {
		all, err := parseMonitors([]string{text}, v2)
		if err != nil {
			return
		}
		for _, m := range all {
			if strings.ContainsAny(m.String(), " ,\n\t\x00/@%=") || m.port == 0 {
				t.Errorf("%q: %q", text, m)
			}
			again, err := parseMonitors([]string{m.String()}, v2)
			if err != nil || len(again) != 1 || again[0] != m {
				t.Errorf("%q: %q is read as %v, %v", text, m, again, err)
			}
		}
	})
}

func TestParseStat(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]sample{
		"1 0 0 0 20 0 0 0 3 0 0":                      {21, 3, now},
		"1 0 0 0 20 0 0 0 3 0 0 300 0 0 0 4000 0":     {4321, 3, now},
		"  1 0 0 0 20 0 0 0 0 0 0 300 0 0 0 4000 0\n": {4321, 0, now},
	} {
		if got, ok := parseStat(text, now); !ok || got != want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1 2 3", "a 0 0 0 0 0 0 0 0", "1 0 0 0 0 0 0 0 -1"} {
		if got, ok := parseStat(text, now); ok {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestTrouble(t *testing.T) {
	then := time.Unix(1000, 0)
	h := holder{Monitors: []string{"10.0.0.1:6789"}, Pool: "rbd", Namespace: "n", Image: "debian", Snapshot: "v1", RequestTimeout: 120}
	first := sample{10, 2, then}.after(sample{})
	second := sample{10, 3, then.Add(12 * time.Second)}.after(first)
	for what, tt := range map[string]struct {
		sample sample
		after  time.Duration
		says   string
	}{
		"idle":             {sample{10, 0, then}.after(sample{10, 1, then.Add(-time.Hour)}), time.Minute, ""},
		"not long":         {first, 4 * time.Second, ""},
		"the same waits":   {second, 12 * time.Second, "stuck: 3 requests to rbd/n/debian@v1 have waited for 12s: the cluster at 10.0.0.1:6789"},
		"one":              {sample{10, 1, then}, 6 * time.Second, "stuck: 1 request to rbd/n/debian@v1 has waited for 6s"},
		"another waits":    {sample{11, 3, then}.after(sample{10, 3, then.Add(-time.Hour)}), time.Second, ""},
		"new after a rest": {sample{10, 3, then}.after(sample{10, 0, then.Add(-time.Hour)}), time.Second, ""},
	} {
		got := fare{holder: h, sample: tt.sample}.trouble(then.Add(tt.after))
		if tt.says == "" && got != "" || !strings.HasPrefix(got, tt.says) {
			t.Errorf("%s: %q, want %q", what, got, tt.says)
		}
		if got != "" && !strings.Contains(got, "osd_request_timeout, 120 s") {
			t.Errorf("%s: %q does not say when it ends", what, got)
		}
	}
}

func TestFeatures(t *testing.T) {
	if got := strings.Join(features(0x40|0x200|1<<40), " "); got != "journaling migrating feature bit 40" {
		t.Error(got)
	}
}
