package tftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
)

// The kinds of packets.
const (
	opData, opAck, opOptions = 3, 4, 6
)

// counts is a Meter that tells a test of every transfer.
type counts struct{ ended chan string }

func (c counts) Transfer(result string, _ int64) {
	select {
	case c.ended <- result:
	default:
	}
}

type bench struct {
	addr  string
	ended chan string
	reg   *nodes.Registry
	s     *Server
}

func serve(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "boot.bin"), bytes.Repeat([]byte("0123456789"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := publish.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	b := &bench{ended: make(chan string, 100), reg: nodes.New([]nodes.Listed{{MAC: "52:54:00:00:00:01", Name: "n1", IP: netip.MustParseAddr("127.0.0.1")}}, nil)}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Listen(ctx, Options{Config: config.TFTP{Listen: "127.0.0.1:0"}, Tree: tree, Nodes: b.reg, Log: log, Meter: counts{b.ended}})
	if err != nil {
		t.Fatal(err)
	}
	b.addr, b.s = s.Addr().String(), s
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait(); tree.Close() })
	return b
}

// fetch gets a file with options.
func (b *bench) fetch(t testing.TB, name string, block int) ([]byte, int64, error) {
	t.Helper()
	c, err := pin.NewClient(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetBlockSize(block)
	c.RequestTSize(true)
	w, err := c.Receive(name, "octet")
	if err != nil {
		return nil, 0, err
	}
	size, _ := w.(pin.IncomingTransfer).Size()
	var buf bytes.Buffer
	_, err = w.WriteTo(&buf)
	return buf.Bytes(), size, err
}

// raw sends one datagram and gives the answer, nil when there is none for a while.
func (b *bench) raw(t testing.TB, packet []byte, wait time.Duration) []byte {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := net.ResolveUDPAddr("udp4", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(packet, to); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	n, from, err := conn.ReadFrom(buf)
	if err != nil {
		return nil
	}
	_, _ = conn.WriteTo([]byte("\x00\x05\x00\x00enough\x00"), from) // ends the transfer; it may have ended already
	return buf[:n]
}

func TestBlocksAndSizes(t *testing.T) {
	b := serve(t)
	for _, block := range []int{512, 1024, 1428, 65464} {
		data, size, err := b.fetch(t, "boot.bin", block)
		if err != nil || len(data) != 50000 || size != 50000 {
			t.Errorf("blocks of %d: %d bytes of %d, %v", block, len(data), size, err)
		}
		if got := <-b.ended; got != "sent" {
			t.Errorf("it is counted as %s", got)
		}
	}
	if s := b.reg.All()[0]; s.Bytes != 4*50000 || s.Stage != "program" {
		t.Errorf("%+v", s)
	}
	if _, _, err := b.fetch(t, "../boot.bin", 512); err == nil || !strings.Contains(err.Error(), "access violation") {
		t.Errorf("an escape: %v", err)
	}
	if _, _, err := b.fetch(t, "none", 512); err == nil || !strings.Contains(err.Error(), "file not found") {
		t.Errorf("no such file: %v", err)
	}
	c, err := pin.NewClient(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := c.Send("new", "octet"); err == nil {
		_, err = w.ReadFrom(strings.NewReader("x"))
		if err == nil {
			t.Error("a file could be written")
		}
	}
}

func TestAskingForTheSizeAloneIsNoError(t *testing.T) {
	b := serve(t)
	if got := b.raw(t, []byte("\x00\x01boot.bin\x00octet\x00tsize\x000\x00"), 10*time.Second); !bytes.Contains(got, []byte("tsize\x0050000\x00")) {
		t.Fatalf("answered %q", got)
	}
	if got := <-b.ended; got != "size" {
		t.Errorf("it is counted as %s", got)
	}
	if s := b.reg.All()[0]; s.Error != nil || s.Boots != 0 {
		t.Errorf("%+v", s)
	}
}

// Options that make no sense, such as those that the library panics on, and requests that are none end nothing else. (Firmware that leaves out
// the mode gets its file.)
func TestStrangeRequests(t *testing.T) {
	b := serve(t)
	for packet, want := range map[string]string{
		"\x00\x01boot.bin\x00octet\x00blksize\x00" + strings.Repeat("0", 480) + "600\x00":                      "\x00",
		"\x00\x01boot.bin\x00OCTET\x00BLKSIZE\x0099999\x00TSIZE\x00" + strings.Repeat("0", 480) + "\x00":       "\x00\x03\x00\x010123456789",
		"\x00\x01boot.bin\x00octet\x00blksize\x0065464\x00windowsize\x0065535\x00multicast\x00\x00":            "\x00\x06blksize\x001468\x00",
		"\x00\x01boot.bin\x00octet\x00blksize\x00-1\x00timeout\x0099999999999999999999\x00windowsize\x000\x00": "\x00\x03\x00\x010123456789",
		"\x00\x01boot.bin\x00octet\x00blksize":                                                                 "\x00\x03\x00\x010123456789",
		"\x00\x01boot.bin\x00netascii\x00":                                                                     "\x00\x03\x00\x010123456789",
		"\x00\x01boot.bin\x00":                                                                                 "\x00\x03\x00\x010123456789",
		"\x00\x01\x00\x00":                                                                                     "\x00\x05\x00\x01access violation",
		"\x00\x01\x00octet\x00":                                                                                "\x00\x05\x00\x01access violation",
		"\x00\x01boot.bin":                                                                                     "",
		"\x00\x02new\x00octet\x00":                                                                             "\x00\x05\x00\x01server does not support write",
		"\x00\x01":                                                                                             "", "\x00\x09xxxx": "", "\x00\x04\x00\x01": "", "\x00": "", "": "",
	} {
		wait := 10 * time.Second
		if want == "" {
			wait = 100 * time.Millisecond // nothing is to come
		}
		if got := string(b.raw(t, []byte(packet), wait)); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%.60q is answered by %.60q, not %q", packet, got, want)
		}
	}
	if data, _, err := b.fetch(t, "boot.bin", 512); err != nil || len(data) != 50000 {
		t.Errorf("afterwards %d bytes, %v", len(data), err)
	}
}

// lossy is a node on a wire on which packets get lost, or come twice.
type lossy struct {
	*net.UDPConn
	lose func(sent bool) (lost, twice bool)
}

func (b *bench) lossy(t *testing.T, lose func(bool) (bool, bool)) *lossy {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &lossy{conn, lose}
}

// fetch gets a file as firmware does, asking again for what does not come, and gives what came.
func (l *lossy) fetch(t *testing.T, server, request string, block int) []byte {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		t.Fatal(err)
	}
	send := func(p []byte) {
		lost, twice := l.lose(true)
		for range map[bool]int{true: 2, false: 1}[twice] {
			if !lost {
				if _, err := l.WriteTo(p, to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	last := []byte(request)
	send(last)
	var got []byte
	var next uint16 = 1
	chosen := false
	buf := make([]byte, 2000)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if err := l.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, from, err := l.ReadFromUDP(buf)
		if err != nil {
			send(last)
			continue
		}
		if lost, _ := l.lose(false); lost || n < 4 {
			continue
		}
		if next == 1 && !chosen { // two transfers may have begun: the first that answers is the one
			to, chosen = from, true
		}
		if from.Port != to.Port {
			continue
		}
		k := uint16(buf[2])<<8 | uint16(buf[3])
		switch {
		case buf[1] == opOptions:
			k = 0
		case buf[1] != opData:
			t.Fatalf("%q came", buf[:n])
		case k == next:
			got = append(got, buf[4:n]...)
			next++
		}
		last = []byte{0, opAck, byte((next - 1) >> 8), byte(next - 1)}
		send(last)
		if buf[1] == opData && k == next-1 && n < 4+block {
			return got
		}
	}
	t.Fatal("it does not come to an end")
	return nil
}

func TestALossyWire(t *testing.T) {
	b := serve(t)
	var packets atomic.Int64
	node := b.lossy(t, func(bool) (bool, bool) {
		k := packets.Add(1)
		return k%23 == 7, k%17 == 5
	})
	got := node.fetch(t, b.addr, "\x00\x01boot.bin\x00octet\x00blksize\x001400\x00", 1400)
	if want := bytes.Repeat([]byte("0123456789"), 5000); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, not what is there", len(got))
	}
}

// Firmware that was started anew may ask from the port that it had: it does not wait until its old transfer has ended.
func TestANodeThatBeginsAnew(t *testing.T) {
	b := serve(t)
	node := b.lossy(t, func(bool) (bool, bool) { return false, false })
	to, err := net.ResolveUDPAddr("udp4", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	const request = "\x00\x01boot.bin\x00octet\x00"
	if _, err := node.WriteTo([]byte(request), to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 600)
	_, from, err := node.ReadFromUDP(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.WriteTo([]byte{0, opAck, 0, 1}, from); err != nil {
		t.Fatal(err)
	}
	if n, _, err := node.ReadFromUDP(buf); err != nil || buf[3] != 2 || n != 516 {
		t.Fatalf("%v, %q", err, buf[:n])
	}
	began := time.Now()
	if got := node.fetch(t, b.addr, request, 512); len(got) != 50000 || time.Since(began) > 10*time.Second {
		t.Errorf("%d bytes came after %s", len(got), time.Since(began))
	}
}

// More nodes than there is room for wait, and get what they ask for. One address alone cannot take all there is.
func TestMoreNodesThanThereIsRoomFor(t *testing.T) {
	r := newRoom()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	var leave []func()
	for i := range maxTransfers {
		l, err := r.enter(addr(i), 0)
		if err != nil {
			t.Fatalf("transfer %d: %v", i, err)
		}
		leave = append(leave, l)
	}
	if _, err := r.enter(addr(maxTransfers), time.Millisecond); !errors.Is(err, errFull) {
		t.Errorf("one too many: %v", err)
	}
	entered := make(chan error)
	go func() {
		l, err := r.enter(addr(maxTransfers), time.Minute)
		if err == nil {
			l()
		}
		entered <- err
	}()
	for len(r.waiting) == 0 {
		runtime.Gosched()
	}
	leave[0]()
	if err := <-entered; err != nil {
		t.Errorf("there was room: %v", err)
	}
	for range maxOfOne {
		if _, err := newRoom().enter(addr(1), 0); err != nil {
			t.Error(err)
		}
	}
	for _, l := range leave[1:] {
		l()
	}
	if len(r.slots) > 0 || len(r.of) > 0 || len(r.waiting) > 0 {
		t.Errorf("%d transfers of %d addresses and %d who wait are left", len(r.slots), len(r.of), len(r.waiting))
	}
}

// A client that asks without end and answers nothing leaves room for others, and is told.
func TestAGreedyClient(t *testing.T) {
	b := serve(t)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := net.ResolveUDPAddr("udp4", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	for range maxTransfers {
		if _, err := conn.WriteTo([]byte("\x00\x01boot.bin\x00octet\x00"), to); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 600)
	for refused := false; !refused; {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal("it was not refused: ", err)
		}
		refused = strings.Contains(string(buf[:n]), "of one address")
	}
	if data, _, err := b.fetch(t, "boot.bin", 1400); err != nil || len(data) != 50000 {
		t.Errorf("another one: %d bytes, %v", len(data), err)
	}
}

// A herd of nodes is switched on at once.
func TestAHerd(t *testing.T) {
	b := serve(t)
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 1+byte(i>>8), byte(i))})
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			node := &lossy{conn, func(bool) (bool, bool) { return false, false }}
			if data := node.fetch(t, b.addr, "\x00\x01boot.bin\x00octet\x00blksize\x001400\x00", 1400); len(data) != 50000 {
				t.Errorf("%d bytes", len(data))
			}
		})
	}
	all.Wait()
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x00\x01boot.bin\x00octet\x00blksize\x001428\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x01../../etc/passwd\x00netascii\x00"))
	f.Add([]byte("\x00\x01boot.bin\x00\x00blksize\x00" + strings.Repeat("0", 485) + "512\x00"))
	f.Add([]byte("\x00\x02new\x00octet\x00"))
	b := serve(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 1400 {
			return
		}
		if got := b.raw(t, packet, 20*time.Millisecond); bytes.Contains(got, []byte("root:")) {
			t.Errorf("%q", got)
		}
	})
}
