package contract

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/spec"
)

func load(t testing.TB) *Contract {
	t.Helper()
	c, err := New(spec.JSON())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// model gives an empty model for an operation's body.
func model(op string) interface{ Validate(strfmt.Registry) error } {
	switch op {
	case "attach":
		return &models.Attach{}
	case "mount":
		return &models.Mount{}
	case "create_container":
		return &models.Container{}
	}
	return &models.ExecSpec{}
}

const (
	local = `{"kind":"local","local":{"path":"/dev/sda"}}`
	disk  = `{"kind":"attach","attach":{"fs_type":"squashfs","attach":` + local + `}}`
)

func overlay(rest string) string { return `{"kind":"overlay","overlay":{` + rest + `}}` }

func nested(n int) string {
	return strings.Repeat(`{"kind":"bind","bind":{"path":"/","base":"mount","mount":`, n-1) + disk + strings.Repeat(`}}`, n-1)
}

func TestBadBodies(t *testing.T) {
	for name, c := range map[string]struct {
		op, body string
		code     int // 400, 413 or a code of a violation
		says     []string
	}{
		"empty":               {"mount", "  ", 400, []string{"body is empty"}},
		"cut off":             {"mount", `{"kind":`, 400, []string{"ends in the middle", "line 1"}},
		"syntax":              {"mount", "{\n \"kind\" \"bind\"}", 400, []string{"not valid JSON", "line 2"}},
		"trailing comma":      {"mount", `{"overlay":{"lower":[1,]}}`, 400, []string{"not valid JSON"}},
		"garbage after":       {"mount", disk + "x", 400, []string{"goes on after the end"}},
		"second value":        {"mount", disk + disk, 400, []string{"goes on after the end"}},
		"not UTF-8":           {"mount", "{\"kind\":\"\xff\"}", 400, []string{"not UTF-8"}},
		"field twice":         {"mount", `{"kind":"bind","kind":"nfs"}`, 400, []string{`"kind" is there twice`}},
		"array":               {"mount", `[]`, 601, []string{"the body must be an object, not an array"}},
		"null":                {"mount", `null`, 601, []string{"must be an object, not null"}},
		"string":              {"mount", `"x"`, 601, []string{"not a string"}},
		"top-level id":        {"mount", `{"id":3}`, 400, []string{"an id is given by the server"}},
		"10,000 deep":         {"mount", strings.Repeat(`{"bind":`, 10_000), 400, []string{"deeper than 256"}},
		"10,000 arrays":       {"mount", strings.Repeat(`[`, 10_000), 400, []string{"deeper than 256"}},
		"a long chain":        {"mount", nested(65), 400, []string{"more than 64 deep"}},
		"too many values":     {"mount", `[` + strings.Repeat(`0,`, 250_000) + `0]`, 413, []string{"more than 100000 values"}},
		"unknown field":       {"mount", `{"knd":"bind"}`, 616, []string{"knd in body is a forbidden property", "known are attach, bind"}},
		"unknown nested":      {"mount", overlay(`"lower":[{"kind":"bind","bind":{"path":"/","base":"root","x":1}}]`), 616, []string{"overlay.lower.0.bind.x"}},
		"unknown kind":        {"attach", `{"kind":"floppy","local":{"path":"/x"}}`, 606, []string{"kind in body should be one of", `not "floppy"`}},
		"wrong type":          {"attach", `{"kind":"local","local":{"path":7}}`, 601, []string{"local.path in body must be a string, not a number"}},
		"missing field":       {"attach", `{"kind":"local","local":{}}`, 602, []string{"local.path in body is required"}},
		"null where required": {"attach", `{"kind":"local","local":{"path":null}}`, 602, []string{"local.path in body is required"}},
		"empty path":          {"attach", `{"kind":"local","local":{"path":""}}`, 604, []string{"local.path"}},
		"NUL in a path":       {"attach", `{"kind":"local","local":{"path":"/dev\u0000x"}}`, 605, []string{"local.path in body must not contain a NUL"}},
		"null in lower":       {"mount", overlay(`"lower":[` + disk + `,null]`), 601, []string{"overlay.lower.1 in body must be an object, not null"}},
		"no lower":            {"mount", overlay(`"lower":[]`), 612, []string{"overlay.lower"}},
		"read-only field":     {"mount", `{"kind":"tmpfs","tmpfs":{},"mountpoint":"/x"}`, 619, []string{"mountpoint in body is readOnly", "given by the server"}},
		"read-only nested":    {"mount", overlay(`"workdir":"/w","lower":[` + disk + `]`), 619, []string{"overlay.workdir"}},
		"id 0":                {"mount", overlay(`"lower":[{"id":0}]`), 609, []string{"overlay.lower.0.id"}},
		"id negative":         {"mount", overlay(`"lower":[{"id":-4}]`), 609, []string{"overlay.lower.0.id"}},
		"id a string":         {"mount", overlay(`"lower":[{"id":"4"}]`), 601, []string{"overlay.lower.0.id in body must be an integer, not a string"}},
		"id a fraction":       {"mount", overlay(`"lower":[{"id":1.5}]`), 601, []string{"overlay.lower.0.id"}},
		"id too large":        {"mount", overlay(`"lower":[{"id":9223372036854775808}]`), 601, []string{"overlay.lower.0.id"}},
		"below minimum":       {"mount", `{"kind":"tmpfs","tmpfs":{"size":5}}`, 609, []string{"tmpfs.size"}},
		"above maximum":       {"attach", `{"kind":"local","local":{"path":"/x","partition":257}}`, 608, []string{"local.partition"}},
		"pattern":             {"create_container", `{"name":"a b","command":"x","mount":{"id":1}}`, 605, []string{"name in body should match"}},
		"bad namespace":       {"create_container", `{"namespaces":["pod"],"command":"x","mount":{"id":1}}`, 606, []string{"namespaces.0"}},
		"env of numbers":      {"create_container", `{"env":{"A":1},"command":"x","mount":{"id":1}}`, 601, []string{"env.A in body must be a string"}},
		"env of null":         {"create_container", `{"env":{"A":null},"command":"x","mount":{"id":1}}`, 601, []string{"env.A"}},
		"two problems":        {"create_container", `{"name":"a b"}`, 605, []string{"name in body", "; command in body is required", "; mount in body is required"}},
		"no kind, no part":    {"mount", `{}`, 400, []string{"the mount has neither kind nor part: give exactly one of attach, bind"}},
		"kind without part":   {"mount", overlay(`"lower":[{"kind":"bind"}]`), 400, []string{"overlay.lower.0 is of kind bind, but has no part bind", `{"id": N} for an existing mount`}},
		"two parts":           {"mount", `{"tmpfs":{},"bind":{"path":"/","base":"root"}}`, 400, []string{"the parts bind, tmpfs"}},
		"another part":        {"attach", `{"kind":"iscsi","local":{"path":"/x"}}`, 400, []string{"is of kind iscsi, but its part is local"}},
		"no command":          {"exec_container", `{"command":[]}`, 612, []string{"command"}},
		"null in command":     {"exec_container", `{"command":["a",null]}`, 601, []string{"command.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := load(t).Operation(c.op).Body([]byte(c.body), model(c.op))
			if got := codeOf(err); got != c.code {
				t.Errorf("code %d, want %d: %v", got, c.code, err)
			}
			for _, part := range c.says {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
		})
	}
}

func codeOf(err error) int {
	var v *Violation
	switch {
	case err == nil:
		return 0
	case errors.As(err, &v):
		return v.Code
	case fault.Is(err, fault.Invalid):
		return 400
	case fault.Is(err, fault.TooLarge):
		return 413
	}
	return 500
}

func TestManyProblemsAreNotAllTold(t *testing.T) {
	body := `{"command":["a"],"env":{`
	for i := range 100 {
		body += `"V` + string(rune('a'+i%26)) + strings.Repeat("x", i) + `":1,`
	}
	err := load(t).Operation("exec_container").Body([]byte(body+`"Z":"z"}}`), &models.ExecSpec{})
	if err == nil || !strings.Contains(err.Error(), "and 80 more") || len(err.Error()) > 10_000 {
		t.Fatal(err)
	}
}

// What the forerunner's generated client sends: nulls for what is unset, references with everything else beside the id.
func TestNullsReferencesAndDefaults(t *testing.T) {
	body := `{"name":"n","command":"/sbin/init","namespaces":null,"state":null,"env":null,"systemd":true,"refs":0,
	  "mount":{"kind":"overlay","overlay":{"workdir":"","lower":[
	    {"id":9007199254740993,"kind":"nonsense","junk":[null],"refs":7},
	    {"attach":{"fs_type":"ext4","mount_options":null,"attach":{"iscsi":{"initiator":"i","target":"t","host":"h"}}}}]}}}`
	c := &models.Container{}
	if err := load(t).Operation("create_container").Body([]byte(body), c); err != nil {
		t.Fatal(err)
	}
	lower := c.Mount.Overlay.Lower
	if lower[0].ID != 9007199254740993 || lower[0].Kind != "" {
		t.Errorf("the reference came out as %+v", lower[0])
	}
	if lower[1].Kind != models.MountKindAttach || lower[1].Attach.Attach.Kind != models.AttachKindIscsi {
		t.Errorf("kinds were not taken from the parts: %s, %s", lower[1].Kind, lower[1].Attach.Attach.Kind)
	}
	iscsi := lower[1].Attach.Attach.Iscsi
	if iscsi.Port != 3260 || *iscsi.MaxComands != 128 || *iscsi.Scheduler != "mq-deadline" {
		t.Errorf("defaults were not filled in: %+v", iscsi)
	}
	if c.Namespaces != nil || c.Env != nil || lower[1].Attach.MountOptions != nil {
		t.Error("null did not stay unset")
	}
}

func TestAChainOfSixtyFourIsAllowed(t *testing.T) {
	if err := load(t).Operation("mount").Body([]byte(nested(63)), &models.Mount{}); err != nil { // the attachment is the 64th
		t.Fatal(err)
	}
}

func TestRequestSchemasAreClosed(t *testing.T) {
	seen := map[*schema]bool{}
	var walk func(path string, s *schema)
	walk = func(path string, s *schema) {
		if s == nil || seen[s] || s.readOnly {
			return
		}
		seen[s] = true
		if s.typ == "object" && !s.closed && s.values == nil {
			t.Errorf("%s takes fields that it does not know", path)
		}
		for name, p := range s.props {
			walk(path+"."+name, p)
		}
		walk(path+".*", s.values)
		walk(path+"[]", s.items)
	}
	for _, op := range load(t).Operations() {
		walk(op.ID, op.body)
	}
}

func TestParameters(t *testing.T) {
	c := load(t)
	for query, want := range map[string]struct {
		op   string
		code int
		says string
	}{
		"id=x":                         {"list_mounts", 601, `id in query must be an integer, not "x"`},
		"id=9223372036854775808":       {"list_mounts", 601, "id in query"},
		"id=1&id=2":                    {"list_mounts", 601, "2 times"},
		"kind=floppy":                  {"list_mounts", 606, "kind in query should be one of"},
		"kind=":                        {"list_mounts", 0, ""},
		"kindd=bind":                   {"list_mounts", 616, "kindd in query is not known; known are: id, kind"},
		"id=%zz":                       {"list_mounts", 400, "query cannot be read"},
		"force=true":                   {"delete_mount", 602, "id in query is required"},
		"id=":                          {"delete_mount", 602, "id in query is required"},
		"id=1&force=maybe":             {"delete_mount", 601, "force in query must be a boolean"},
		"id=1&force=yes":               {"delete_mount", 0, ""},
		"id=1&state=dead":              {"set_container_state", 606, "state in query"},
		"id=1&state=exited&timeout=-1": {"set_container_state", 609, "timeout in query"},
		"condition=ready&timeout=1e9":  {"wait_container", 608, "timeout in query"},
		"timeout=NaN":                  {"wait_container", 601, "timeout in query"},
		"x=1":                          {"get_info", 616, "known are: none"},
	} {
		r := httptest.NewRequest("GET", "/?"+query, nil)
		_, err := c.Operation(want.op).Params(r, map[string]string{"id": "1"})
		if got := codeOf(err); got != want.code || err != nil && !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s ?%s: %d %v; want %d %q", want.op, query, got, err, want.code, want.says)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	if _, err := c.Operation("wait_container").Params(r, map[string]string{"id": "abc"}); codeOf(err) != 601 {
		t.Errorf("a path that is no number: %v", err)
	}
	p, err := c.Operation("wait_container").Params(r, map[string]string{"id": "7"})
	if err != nil || *p.Int64("id") != 7 || p.Text("condition") != "ended" || p.Float64("timeout") != nil {
		t.Errorf("got %v, %v", p, err)
	}
}

// FuzzBody: whatever passes also passes the generated models, comes out the same when it is sent again, and nothing panics.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{disk, nested(3), overlay(`"lower":[{"id":1}],"upper":{"size":65536}`), `{"tmpfs":{"mode":"0755"}}`,
		`{"name":"a","command":"x","mount":{"id":1},"env":{"A":"b"},"limits":{"cpu":0.5,"memory":1e9}}`, `{"command":["sh"],"tty":true}`,
		`{"kind":"rbd","rbd":{"monitors":["m"],"pool":"p","image":"i","options":{"secret":"s","lock_timeout":1}}}`, `[[[[`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed))
	}
	c := load(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, id := range []string{"attach", "mount", "create_container", "exec_container"} {
			m := model(id)
			if err := c.Operation(id).Body(body, m); err != nil {
				if codeOf(err) == 500 {
					t.Fatalf("%s: %v", id, err)
				}
				continue
			}
			if err := m.Validate(strfmt.Default); err != nil {
				t.Fatalf("%s passed, but the model says %v", id, err)
			}
			again, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Operation(id).Body(again, model(id)); err != nil {
				t.Fatalf("%s does not pass again as %s: %v", id, again, err)
			}
		}
	})
}
