package tftp

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pin "github.com/pin/tftp/v3"
	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
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
}

func serve(t testing.TB, single bool) *bench {
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
	s, err := Listen(ctx, Options{Config: config.TFTP{Listen: "127.0.0.1:0", SinglePort: single}, Tree: tree, Nodes: b.reg, Log: log, Meter: counts{b.ended}})
	if err != nil {
		t.Fatal(err)
	}
	b.addr = s.Addr().String()
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
	for _, single := range []bool{false, true} {
		b := serve(t, single)
		for _, block := range []int{512, 1024, 1428, 65464} {
			data, size, err := b.fetch(t, "boot.bin", block)
			if err != nil || len(data) != 50000 || size != 50000 {
				t.Errorf("single port %v, blocks of %d: %d bytes of %d, %v", single, block, len(data), size, err)
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
}

func TestAskingForTheSizeAloneIsNoError(t *testing.T) {
	b := serve(t, false)
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

// The library writes options back into a buffer that these do not fit into.
func TestOptionsThatDoNotFitEndNothingElse(t *testing.T) {
	for _, single := range []bool{false, true} {
		b := serve(t, single)
		zeros := strings.Repeat("0", 480)
		for _, packet := range []string{
			"\x00\x01boot.bin\x00octet\x00blksize\x00" + zeros + "512\x00",
			"\x00\x01boot.bin\x00\x00blksize\x00" + zeros + "00512\x00tsize\x000\x00",
			"\x00\x01boot.bin\x00\x00tsize\x00" + zeros + "000000000000\x00",
			"\x00\x01boot.bin\x00octet\x00blksize\x00-1\x00tsize\x00x\x00timeout\x0099999999999999999999\x00windowsize\x0064\x00",
			"\x00\x01", "\x00\x01\x00\x00", "\x00\x01boot.bin", "\x00\x02x\x00octet\x00", "\x00\x09", "\x00", "",
		} {
			b.raw(t, []byte(packet), 200*time.Millisecond)
		}
		var results []string
		for len(b.ended) > 0 {
			results = append(results, <-b.ended)
		}
		if !slices.Contains(results, "invalid") {
			t.Errorf("single port %v: none of the requests made the library panic, but %v: is the recover still needed?", single, results)
		}
		if data, _, err := b.fetch(t, "boot.bin", 512); err != nil || len(data) != 50000 {
			t.Errorf("single port %v: afterwards %d bytes, %v", single, len(data), err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x00\x01boot.bin\x00octet\x00blksize\x001428\x00tsize\x000\x00"))
	f.Add([]byte("\x00\x01../../etc/passwd\x00netascii\x00"))
	f.Add([]byte("\x00\x01boot.bin\x00\x00blksize\x00" + strings.Repeat("0", 485) + "512\x00"))
	f.Add([]byte("\x00\x02new\x00octet\x00"))
	b := serve(f, false)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 1400 {
			return
		}
		if got := b.raw(t, packet, 20*time.Millisecond); bytes.Contains(got, []byte("root:")) {
			t.Errorf("%q", got)
		}
	})
}
