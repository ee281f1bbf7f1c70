package rbd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestMonitors(t *testing.T) {
	for text, want := range map[string]string{ // of version 1
		"10.0.0.1":           "10.0.0.1:6789",
		"10.0.0.1:7000":      "10.0.0.1:7000",
		"fd00::1":            "[fd00::1]:6789",
		"[fd00::1]":          "[fd00::1]:6789",
		"[fd00::1]:7000":     "[fd00::1]:7000",
		"::ffff:10.0.0.1":    "10.0.0.1:6789",
		"Mon-a.example.":     "mon-a.example:6789",
		"mon_a:7000":         "mon_a:7000",
		"v1":                 "v1:6789",
		"v1:7000":            "v1:7000",
		"v1:10.0.0.1":        "10.0.0.1:6789",
		"v1:10.0.0.1:6789/0": "10.0.0.1:6789",
		"10.0.0.1:6789/0":    "10.0.0.1:6789",
		"v2:10.0.0.1":        "",
		"[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]": "10.0.0.1:6789",
		"[v2:[fd00::1]:3300/0,v1:[fd00::1]:6790]": "[fd00::1]:6790",
		"": "", " 10.0.0.1": "", "10.0.0.1 ": "", "10.0.0.1,10.0.0.2": "", "10.0.0.1:0": "", "10.0.0.1:65536": "", "10.0.0.1:+1": "", "10.0.0.1:": "",
		"10.0.0.1/a": "", "10.0.0.1\n": "", "10.0.0.1\x00": "", "[fd00::1": "", "[10.0.0.1]": "", "[fd00::1]x": "", "fe80::1%eth0": "", "10.0.0": "", "-a": "", "a..b": "", "a:b": "",
		"[]": "", "[v1:]": "", "[v1:a,v1:b c]": "", "mön": "", "http://a": "", "300.1.1.1": "",
	} {
		all, err := parseMonitors([]string{text}, false)
		if want == "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "rbd.monitors") {
				t.Errorf("%q: %v, %v; want invalid", text, all, err)
			}
			continue
		}
		if err != nil || len(all) != 1 || all[0].String() != want {
			t.Errorf("%q: %v, %v; want %s", text, all, err, want)
		}
	}
	second, err := parseMonitors([]string{"a", "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", "v2:10.0.0.1", "v1:b"}, true)
	if err != nil || len(second) != 2 || second[0].String() != "a:3300" || second[1].String() != "10.0.0.1:3300" {
		t.Errorf("of version 2: %v, %v", second, err)
	}
	if _, err := parseMonitors(strings.Fields(strings.Repeat("10.0.0.1 ", 40)), false); err != nil {
		t.Errorf("one monitor 40 times: %v", err)
	}
}

func TestResolve(t *testing.T) {
	find := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host == "mons" {
			return []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("10.0.0.1")}, nil
		}
		return nil, errors.New("no such host")
	}
	all, err := parseMonitors([]string{"nowhere", "mons", "10.0.0.3:7000"}, false)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := resolve(t.Context(), all, find)
	if got := (&request{}).mustLine(t, addrs); err != nil || !strings.HasPrefix(got, "10.0.0.1:6789,[fd00::2]:6789,10.0.0.3:7000 ") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := resolve(t.Context(), all[:1], find); !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "nowhere: no such host") {
		t.Errorf("only a name that is nowhere: %v", err)
	}
}
