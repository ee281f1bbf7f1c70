package servers

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	iqnOpen = "iqn.2026-01.lab.windlass:open"
	iqnCHAP = "iqn.2026-01.lab.windlass:chap"
	iqnMore = "iqn.2026-01.lab.windlass:more"
)

func startTGT(t *testing.T, ctx context.Context, dir string) *TGT {
	t.Helper()
	disk := mustMake(t, filepath.Join(dir, "disk"), 1<<20)
	alice, bob := Account{"alice", "secretsecret12"}, Account{"bob", "othersecret123"}
	s, err := StartTGT(ctx, TGTConfig{Dir: filepath.Join(dir, "tgt"), Portals: []netip.AddrPort{netip.AddrPortFrom(ipv4(), 0), netip.AddrPortFrom(ipv6(), 3261)}},
		Target{IQN: iqnOpen, LUNs: []LUN{{Number: 1, File: disk, ReadOnly: true, ID: "windlass-1"}, {Number: 7, File: disk}}},
		Target{IQN: iqnCHAP, LUNs: []LUN{{Number: 1, File: disk}}, CHAP: []Account{alice}, Mutual: &bob, Params: map[string]string{"HeaderDigest": "CRC32C"}})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	return s
}

// TestTGT: what was configured is served at every portal, also after tgtd was killed and started again.
func TestTGT(t *testing.T) {
	ctx, dir := begin(t)
	s := startTGT(t, ctx, dir)
	check := func(want ...string) {
		t.Helper()
		for _, p := range s.Portals() {
			if got := sendTargets(t, p.String()); !slices.Equal(got, want) {
				t.Errorf("%v offers %v, want %v", p, got, want)
			}
		}
	}
	check(iqnOpen, iqnCHAP)
	before, err := s.Admin(ctx, "--op", "show", "--mode", "target")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LUN: 7", "SCSI ID: windlass-1", "Readonly: Yes", "alice", "bob (outgoing)"} {
		if !strings.Contains(before, want) {
			t.Errorf("%q is missing in %s", want, before)
		}
	}
	if err := s.Signal(ctx, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", s.Portals()[0].String()); err == nil {
		conn.Close()
		t.Error("tgtd was killed and can be reached")
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	check(iqnOpen, iqnCHAP)
	if after, err := s.Admin(ctx, "--op", "show", "--mode", "target"); err != nil || after != before {
		t.Errorf("before:\n%s\nafter: %v\n%s", before, err, after)
	}
}

// TestTGTChanges: targets come and go while it runs, and stay so after it was started again.
func TestTGTChanges(t *testing.T) {
	ctx, dir := begin(t)
	s := startTGT(t, ctx, dir)
	at := s.Portals()[0].String()
	more := Target{IQN: iqnMore, LUNs: []LUN{{Number: 1, File: filepath.Join(dir, "disk")}}, CHAP: []Account{{"alice", "secretsecret12"}}}
	if err := s.Add(ctx, more); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, iqnOpen); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, iqnOpen); err == nil {
		t.Error("a target was removed twice")
	}
	if err := s.Signal(ctx, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := sendTargets(t, at); !slices.Equal(got, []string{iqnCHAP, iqnMore}) {
		t.Errorf("there are %v", got)
	}
	if n, err := s.Sessions(ctx, iqnMore); n != 0 || err != nil {
		t.Errorf("sessions: %d, %v", n, err)
	}
}

// TestTGTStopped: it takes connections, as the kernel does that for it, and says nothing until it goes on.
func TestTGTStopped(t *testing.T) {
	ctx, dir := begin(t)
	s := startTGT(t, ctx, dir)
	if err := s.Signal(ctx, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answered := make(chan []string, 1)
	go func() { answered <- sendTargets(t, s.Portals()[0].String()) }()
	select {
	case got := <-answered:
		t.Errorf("a target that is stopped answers %v", got)
	case <-time.After(200 * time.Millisecond):
	}
	if err := s.Signal(ctx, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

// TestTGTFails: what tgtadm says is in the error, and nothing is left.
func TestTGTFails(t *testing.T) {
	ctx, dir := begin(t)
	cfg := TGTConfig{Dir: filepath.Join(dir, "tgt"), Portals: []netip.AddrPort{netip.AddrPortFrom(ipv4(), 0)}}
	_, err := StartTGT(ctx, cfg, Target{IQN: iqnOpen, LUNs: []LUN{{Number: 1, File: filepath.Join(dir, "missing")}}})
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a file that is not there: %v", err)
	}
	cfg.Portals = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3260")}
	if _, err := StartTGT(ctx, cfg); err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("an address of somebody else: %v", err)
	}
}

// sendTargets asks a portal for its targets by a discovery session (RFC 7143, 4.3).
func sendTargets(t *testing.T, portal string) (iqns []string) {
	conn, err := net.Dial("tcp", portal)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Error(err)
		return nil
	}
	// Login, immediate, from the operational stage to full feature; then a text request.
	login := pdu(t, conn, 0x43, 0x87, 0, "InitiatorName=iqn.2026-01.lab.windlass:test\x00SessionType=Discovery\x00")
	if len(login) == 0 {
		return nil
	}
	for pair := range strings.SplitSeq(pdu(t, conn, 0x04, 0x80, 1, "SendTargets=All\x00"), "\x00") {
		if name, ok := strings.CutPrefix(pair, "TargetName="); ok {
			iqns = append(iqns, name)
		}
	}
	slices.Sort(iqns)
	if i := slices.Index(iqns, iqnOpen); i > 0 { // the order of making, for readers
		iqns = append([]string{iqnOpen}, slices.Delete(iqns, i, i+1)...)
	}
	return iqns
}

// pdu sends one message and gives the text of the answer.
func pdu(t *testing.T, conn net.Conn, opcode, flags byte, sequence uint32, text string) string {
	head := make([]byte, 48)
	head[0], head[1] = opcode, flags
	head[7] = byte(len(text))
	copy(head[8:14], []byte{0x80, 1, 2, 3, 4, 5}) // ISID, of random kind
	binary.BigEndian.PutUint32(head[16:], sequence+1)
	if opcode == 0x04 {
		copy(head[8:16], make([]byte, 8)) // LUN
		binary.BigEndian.PutUint32(head[20:], 0xffffffff)
	}
	binary.BigEndian.PutUint32(head[24:], sequence)
	padded := append([]byte(text), make([]byte, (4-len(text)%4)%4)...)
	if _, err := conn.Write(append(head, padded...)); err != nil {
		t.Error(err)
		return ""
	}
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Errorf("PDU %#x: %v", opcode, err)
		return ""
	}
	length := int(head[5])<<16 | int(head[6])<<8 | int(head[7])
	if head[0]&0x3f != opcode&0x3f|0x20 || opcode == 0x43 && head[36] != 0 {
		t.Errorf("PDU %#x is answered by %x", opcode, head)
		return ""
	}
	answer := make([]byte, (length+3)&^3)
	if _, err := io.ReadFull(conn, answer); err != nil {
		t.Error(err)
	}
	return string(answer[:length])
}
