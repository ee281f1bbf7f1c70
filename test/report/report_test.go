package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const m = "github.com/windlass-hpc/windlass/"

func TestReport(t *testing.T) {
	tests := map[string]struct {
		events  []string
		totals  string
		ok      bool
		shows   []string
		conceal string
	}{
		"a parent does not count beside its children": {
			events: []string{ev("run", "a", "T"), ev("run", "a", "T/x"), ev("run", "a", "T/y"), ev("pass", "a", "T/x"), ev("pass", "a", "T/y"), ev("pass", "a", "T"), ev("pass", "a", "")},
			totals: "2 0 0\n", ok: true, shows: []string{"pass    2 tests"},
		},
		"a subtest whose name has slashes": {
			events: []string{ev("run", "a", "T"), ev("run", "a", "T//dev/x"), ev("pass", "a", "T//dev/x"), ev("pass", "a", "T"), ev("pass", "a", "")},
			totals: "1 0 0\n", ok: true,
		},
		"a failing subtest whose name has slashes": {
			events: []string{ev("run", "a", "T"), ev("fail", "a", "T//dev/x"), ev("fail", "a", "T"), ev("fail", "a", "")},
			totals: "0 1 0\n", shows: []string{"FAIL a T//dev/x\n"},
		},
		"a failure is shown with its output, a success is not": {
			events: []string{out("a", "T", "what went wrong"), out("a", "U", "chatter"), ev("fail", "a", "T"), ev("pass", "a", "U"), ev("fail", "a", "")},
			totals: "1 1 0\n", shows: []string{"FAIL a T\n    what went wrong"}, conceal: "chatter",
		},
		"what a test has measured is shown": {
			events: []string{out("a", "T", "x_test.go:1: figure: 12 kills"), ev("pass", "a", "T"), ev("pass", "a", "")},
			totals: "1 0 0\n", ok: true, shows: []string{"figure T: 12 kills"}, conceal: "x_test.go",
		},
		"a parent that fails by itself counts": {
			events: []string{ev("pass", "a", "T/x"), ev("fail", "a", "T"), ev("fail", "a", "")},
			totals: "1 1 0\n", shows: []string{"FAIL a T\n"},
		},
		"a test that ran when the process died failed": {
			events: []string{ev("run", "a", "T"), out("a", "T", "panic: oh"), ev("fail", "a", "")},
			totals: "0 1 0\n", shows: []string{"panic: oh"},
		},
		"a package that does not build": {
			events: []string{`{"Action":"build-output","ImportPath":"b","Output":"no such thing\n"}`, `{"Action":"fail","Package":"` + m + `a","FailedBuild":"b"}`},
			totals: "0 1 0\n", shows: []string{"FAIL a\n", "no such thing"},
		},
		"a skip that is allowed": {
			events: []string{ev("skip", "a", "TestNeeds"), ev("pass", "a", "")},
			totals: "0 0 1\n", ok: true, shows: []string{"skip a TestNeeds: no such hardware here"},
		},
		"a skip that is not": {
			events: []string{out("a", "T", "I feel like it"), ev("skip", "a", "T"), ev("pass", "a", "")},
			totals: "0 0 1\n", shows: []string{"SKIPPED, but nothing says", "I feel like it"},
		},
		"the output ends too early": {events: []string{ev("pass", "a", "T")}, totals: "0 1 0\n", shows: []string{"FAIL a: the output ended"}},
		"nothing at all":            {totals: "0 1 0\n", shows: []string{"no package was tested"}},
		"a message of the go command": {
			events: []string{"go: cannot find module", ev("pass", "a", "T"), ev("pass", "a", "")},
			totals: "1 0 0\n", ok: true, shows: []string{"go: cannot find module\n"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			skips, totals := filepath.Join(dir, "skips"), filepath.Join(dir, "totals")
			if err := os.WriteFile(skips, []byte("# none\na TestNeed* no such hardware here\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var shown strings.Builder
			in := strings.Join(append(tt.events, ""), "\n")
			ok, err := run([]string{"-skips", skips, "-totals", totals}, strings.NewReader(in), &shown)
			if err != nil || ok != tt.ok {
				t.Errorf("ok %v, error %v, want %v; it showed\n%s", ok, err, tt.ok, shown.String())
			}
			if got, _ := os.ReadFile(totals); string(got) != tt.totals {
				t.Errorf("totals %q, want %q", got, tt.totals)
			}
			for _, s := range tt.shows {
				if !strings.Contains(shown.String(), s) {
					t.Errorf("%q is not in\n%s", s, shown.String())
				}
			}
			if tt.conceal != "" && strings.Contains(shown.String(), tt.conceal) {
				t.Errorf("%q is shown", tt.conceal)
			}
		})
	}
}

func ev(action, pkg, test string) string {
	return `{"Action":"` + action + `","Package":"` + m + pkg + `","Test":"` + test + `"}`
}

func out(pkg, test, text string) string {
	return `{"Action":"output","Package":"` + m + pkg + `","Test":"` + test + `","Output":"` + text + `\n"}`
}
