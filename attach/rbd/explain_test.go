package rbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestExplain is for what a real cluster is not easily brought to answer; the rest is tested against one.
func TestExplain(t *testing.T) {
	r := &request{user: "node", holder: holder{Monitors: []string{"10.0.0.1:6789"}, Pool: "rbd", Image: "debian"}}
	for what, tt := range map[string]struct {
		err  error
		said []string
		kind fault.Kind
		says string
	}{
		"nothing logged":     {unix.ENOENT, nil, fault.NotFound, "no such pool, namespace, image or snapshot"},
		"another's image":    {unix.ENOENT, []string{"rbd: image rbd/other does not exist"}, fault.NotFound, "no such pool, namespace, image or snapshot"},
		"feature not logged": {unix.ENXIO, nil, fault.Unsupported, "a feature"},
		"two features":       {unix.ENXIO, []string{"rbd: image debian: image uses unsupported features: 0x240"}, fault.Unsupported, "journaling, migrating"},
		"blocklisted":        {unix.ESHUTDOWN, nil, fault.Forbidden, "blocklisted this node"},
		"lock not given":     {unix.EROFS, nil, fault.Busy, "exclusive lock"},
		"lock not had":       {unix.ETIMEDOUT, []string{"libceph: mon0 session established", "rbd: rbd0: failed to acquire lock: -110"}, fault.Busy, "exclusive lock"},
		"no OSD":             {unix.ETIMEDOUT, []string{"libceph: mon0 (1)10.0.0.1:6789 session established"}, fault.Timeout, "a monitor answers, but not the rest"},
		"unreachable":        {unix.ENETUNREACH, nil, fault.Backend, "10.0.0.1:6789"},
		"unknown option":     {unix.EINVAL, []string{"rbd: Unknown parameter 'crush_location'"}, fault.Invalid, "Unknown parameter 'crush_location'"},
		"out of memory":      {unix.ENOMEM, nil, fault.Internal, "cannot allocate memory"},
		"a deadline":         {context.DeadlineExceeded, nil, fault.Timeout, "10.0.0.1:6789 has not answered in time"},
		"cancelled":          {context.Canceled, nil, fault.Internal, "canceled"},
	} {
		err := r.explain(t.Context(), fmt.Errorf("write to add: %w", tt.err), nil, tt.said)
		if !fault.Is(err, tt.kind) || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "rbd/debian") {
			t.Errorf("%s: %s: %v", what, fault.KindOf(err), err)
		}
	}
}

// TestReach looks at what says the first words of a monitor, or none.
func TestReach(t *testing.T) {
	for banner, want := range map[string][2]string{ // by legacy, by msgr2
		"ceph v027more":     {"greets, but gives no session", "speaks version 1"},
		"ceph v2\n\x10\x00": {"speaks version 2", "greets, but gives no session"},
		"SSH-2.0-x":         {"is no monitor", "is no monitor"},
		"":                  {"says nothing", "says nothing"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte(banner))
				c.Close()
			}
		}()
		addr := netip.MustParseAddrPort(l.Addr().String())
		for i, v2 := range []bool{false, true} {
			if got := reach(t.Context(), []netip.AddrPort{addr}, v2); len(got) != 1 || !strings.Contains(got[0], want[i]) {
				t.Errorf("%q: %q, want %q", banner, got, want[i])
			}
		}
		l.Close()
		if got := reach(t.Context(), []netip.AddrPort{addr}, false); got[0] != addr.String()+" refuses connections" {
			t.Errorf("closed: %q", got)
		}
	}
}
