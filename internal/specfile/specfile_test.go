package specfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func TestYAMLAndJSONBecomeTheSame(t *testing.T) {
	fromYAML, fromJSON := models.Container{}, models.Container{}
	y := `
name: 2026-01-02
command: /sbin/init
systemd: true
env: {A: "1"}
created: 2026-01-02T03:04:05Z
namespaces: [net]
limits: {cpu: 2, memory: 1048576}
mount:
  kind: overlay
  overlay:
    lower:
    - id: 3
`
	j := `{"name":"2026-01-02","command":"/sbin/init","systemd":true,"env":{"A":"1"},"created":"2026-01-02T03:04:05Z","namespaces":["net"],
"limits":{"cpu":2,"memory":1048576},"mount":{"kind":"overlay","overlay":{"lower":[{"id":3}]}}}`
	if err := Decode("a.yaml", []byte(y), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if err := Decode("a.json", []byte(j), &fromJSON); err != nil {
		t.Fatal(err)
	}
	a, _ := fromYAML.MarshalBinary()
	b, _ := fromJSON.MarshalBinary()
	if d := cmp.Diff(string(a), string(b)); d != "" {
		t.Fatal(d)
	}
	if fromYAML.Mount.Overlay.Lower[0].ID != 3 || *fromYAML.Command != "/sbin/init" {
		t.Fatalf("got %s", a)
	}
}

func TestProblemsSayTheLine(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"empty":            {"", []string{"s.yaml: the file is empty"}},
		"comments only":    {"# none\n", []string{"s.yaml: the file is empty"}},
		"two documents":    {"kind: bind\n---\nkind: bind\n", []string{"more than one document"}},
		"not YAML":         {"a: [", []string{"s.yaml: line 1"}},
		"a list":           {"- a", []string{"s.yaml:1: must be a mapping of fields, not a list"}},
		"unknown, near":    {"kind: overlay\noverlay:\n  lowr: []\n", []string{"s.yaml:3: overlay: unknown field lowr (did you mean lower?)"}},
		"unknown, far":     {"bind:\n  zebra: 1\n", []string{"s.yaml:2: bind: unknown field zebra; there are base, mount, path, recursive, ro"}},
		"number for text":  {"kind: nfs\nnfs:\n  version: 4.2\n", []string{`s.yaml:3: nfs.version: must be text; write "4.2" with the quotes`}},
		"text for number":  {"tmpfs: {size: 1G}\n", []string{`s.yaml:1: tmpfs.size: must be a whole number, not "1G"`}},
		"text for bool":    {"bind: {ro: maybe}\n", []string{`bind.ro: must be true or false, not "maybe"`}},
		"text for a list":  {"overlay: {lower: 3}\n", []string{`overlay.lower: must be a list, not "3"`}},
		"list for a text":  {"bind: {path: [a]}\n", []string{"bind.path: must be text, not a list"}},
		"several":          {"knd: a\noverlay:\n  lower:\n  - idd: 3\n", []string{"s.yaml:1: unknown field knd", "s.yaml:4: overlay.lower[0]: unknown field idd"}},
		"key twice":        {"kind: bind\nkind: uri\n", []string{`line 2: mapping key "kind" already defined at line 1`}},
		"alias of itself":  {"&a\noverlay: {lower: [*a]}\n", []string{"nested deeper than 1000"}},
		"number too large": {"id: 99999999999999999999\n", []string{"s.yaml:1: id: must be a whole number"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := Decode("s.yaml", []byte(tc.text), &models.Mount{})
			if err == nil {
				t.Fatal("taken")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}
