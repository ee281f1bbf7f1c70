package cli

import (
	"bytes"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

func TestHostAndPort(t *testing.T) {
	type place struct {
		Host string
		Port int64
	}
	for text, want := range map[string]place{
		"h": {"h", 0}, "h:3260": {"h", 3260}, "10.0.0.5:1": {"10.0.0.5", 1}, "fd00::5": {"fd00::5", 0}, "[fd00::5]": {"fd00::5", 0},
		"[fe80::5%eth0]:3260": {"fe80::5%eth0", 3260}, "fe80::5%eth0": {"fe80::5%eth0", 0},
		"": {}, ":3260": {}, "h:": {}, "h:0": {}, "h:65536": {}, "h:iscsi": {}, "a:b:c": {},
	} {
		host, port, err := hostPort(text)
		if (err != nil) != (want.Host == "") {
			t.Errorf("%q: %v", text, err)
		}
		if d := cmp.Diff(want, place{host, port}); d != "" && err == nil {
			t.Errorf("%q: %s", text, d)
		}
	}
}

func TestTargetsAreListed(t *testing.T) {
	found := []login.Target{
		{Name: "iqn.2026-01.org.example:a", Portals: []login.Portal{{Host: "10.0.0.5", Port: 3260, Tag: 1}, {Host: "fd00::5", Port: 3260}}},
		{Name: "iqn.2026-01.org.example:b", Portals: []login.Portal{{Host: "10.0.0.6", Port: 860}}},
	}
	for format, want := range map[string]string{
		formatTable: "TARGET                     PORTALS\n" +
			"iqn.2026-01.org.example:a  10.0.0.5:3260 [fd00::5]:3260\niqn.2026-01.org.example:b  10.0.0.6:860\n",
		formatJSON: "[\n  {\n    \"target\": \"iqn.2026-01.org.example:a\",\n    \"portals\": [\n      \"10.0.0.5:3260\",\n      \"[fd00::5]:3260\"\n    ]\n  },\n" +
			"  {\n    \"target\": \"iqn.2026-01.org.example:b\",\n    \"portals\": [\n      \"10.0.0.6:860\"\n    ]\n  }\n]\n",
	} {
		var out bytes.Buffer
		a := &app{out: &out, output: format}
		if err := a.printTargets(found); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, out.String()); d != "" {
			t.Errorf("%s: %s", format, d)
		}
	}
}

// It needs no daemon, and says what it could not reach.
func TestDiscoveryOfAClosedPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r := run(t, nil, nil, "windlass", "iscsi", "discover", address, "--initiator", "iqn.2026-01.org.example:n7")
	r.want(t, exitFailed, "discover the targets at "+address)
}
