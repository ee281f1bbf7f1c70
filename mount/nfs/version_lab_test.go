//go:build lab

package nfs

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// TestVersionsOfTheServer: the best that it has is taken, and one that has none is named.
func TestVersionsOfTheServer(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	for most, want := range map[uint32]string{1: "4.1", 0: "4.0"} {
		m, _ := export(t, c, "127.0.0.1", "", "port="+olderServer(t, most))
		a := mounted(t, d, m)
		wantFiles(t, a.Target.Dir)
		if i := info(t, a); !strings.Contains(i.VFSOptions, "vers="+want+",") {
			t.Errorf("mounted is %s, want %s", i.VFSOptions, want)
		}
		if err := d.Unmount(t.Context(), a, false); err != nil {
			t.Error(err)
		}
		newest := "4.2"
		m.Nfs.Version = &newest
		_, err := d.Mount(t.Context(), 1, m, nil, mounttest.Place(t))
		wantError(t, err, fault.Unsupported, "127.0.0.1 does not speak NFS 4.2: protocol not supported")
	}
}

// olderServer stands before the lab's server and refuses what is of a minor version above most. It gives its port.
func olderServer(t *testing.T, most uint32) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go forward(client, most)
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// forward carries the records of ONC RPC (RFC 5531, section 11) there, and what comes back.
func forward(client net.Conn, most uint32) {
	defer client.Close()
	// An export may be for privileged ports only, as the client's own is.
	server, err := net.Dial("tcp", control.NFSServer+":2049")
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(client, server); client.Close() }()
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head)&^(1<<31))
		if _, err := io.ReadFull(client, body); err != nil {
			return
		}
		if answer := refuse(body, most); answer != nil {
			if _, err := client.Write(answer); err != nil {
				return
			}
			continue
		}
		if _, err := server.Write(append(head, body...)); err != nil {
			return
		}
	}
}

// refuse answers a COMPOUND (RFC 8881, section 16.2) of a minor version above most with NFS4ERR_MINOR_VERS_MISMATCH; else it gives nil.
func refuse(call []byte, most uint32) []byte {
	word := func(at int) uint32 {
		if at+4 > len(call) {
			return 0
		}
		return binary.BigEndian.Uint32(call[at:])
	}
	opaque := func(at int) int { return at + 4 + int(word(at)+3)&^3 }
	if word(4) != 0 || word(12) != 100003 || word(16) != 4 || word(20) != 1 {
		return nil // no call of NFS 4's COMPOUND
	}
	at := opaque(24 + 4) // credentials
	at = opaque(at + 4)  // verifier
	if at = opaque(at); word(at) <= most {
		return nil
	}
	const accepted, mismatch = 0, 10021
	answer := []byte{0x80, 0, 0, 9 * 4}
	for _, w := range []uint32{word(0), 1, accepted, 0, 0, 0, mismatch, 0, 0} { // reply; empty verifier; success; status; empty tag; no results
		answer = binary.BigEndian.AppendUint32(answer, w)
	}
	return answer
}

// TestALink mounts from an address that is of one link alone.
func TestALink(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	var server netip.Addr
	for _, field := range strings.Fields(c.Run(t, "ip", "-6", "-o", "address", "show", "dev", "br0", "scope", "link")) {
		if prefix, err := netip.ParsePrefix(field); err == nil {
			server = prefix.Addr().WithZone("eth0")
		}
	}
	if !server.IsValid() {
		t.Fatal("the server has no such address")
	}
	for _, version := range []string{"4.2", "3"} {
		m, _ := export(t, c, "["+server.String()+"]", version)
		a := mounted(t, d, m)
		wantFiles(t, a.Target.Dir)
		if i := info(t, a); !strings.HasPrefix(addressOf(i), server.WithZone("").String()) {
			t.Errorf("mounted is %s", i.VFSOptions)
		}
		if err := d.Unmount(t.Context(), a, false); err != nil {
			t.Error(err)
		}
	}
}
