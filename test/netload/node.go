package netload

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// Boot is what all nodes of a load do.
type Boot struct {
	Ether *Ether
	URL   string // of the boot server
	// Sums are the CRC-32 (IEEE) of files: "tftp:NAME" or a path such as /files/vmlinuz.
	Sums map[string]uint32
	// Program is fetched by TFTP, Parts of the path Image by ranges of 64 KiB.
	Program string
	Image   string
	Parts   int
	Size    int64 // of Image
	// Status counts answers of the web server by their codes.
	Status func(code int)
}

// Figures are what it took one node.
type Figures struct {
	Address  netip.Addr
	Lease    time.Duration // of firmware, from the first DISCOVER to the ACK
	Later    time.Duration // of iPXE or of the system, whichever took longer
	TFTP     time.Duration
	Kernel   time.Duration // with the initramfs
	All      time.Duration
	Messages int // of DHCP; 6 at best
	Again    int // TFTP packets that were sent again
	Retries  int // of requests by HTTP
}

// firmwareWaits are those of the PXE specification, ipxeWaits those of iPXE, more or less, and then on.
var (
	firmwareWaits = []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}
	ipxeWaits     = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 16 * time.Second}
)

// Run boots a node. What a real one would be rebooted for, such as a server that is gone for a moment, is tried again.
func (b *Boot) Run(ctx context.Context, mac net.HardwareAddr) (f Figures, err error) {
	began := time.Now()
	n := &node{b: b, mac: mac, began: began, f: &f}
	for _, step := range []func(context.Context) error{n.firmware, n.program, n.ipxe, n.linux, n.system} {
		if err = step(ctx); err != nil {
			return f, fmt.Errorf("%s (%s): %w", mac, f.Address, err)
		}
	}
	f.All = time.Since(began)
	return f, nil
}

type node struct {
	b     *Boot
	mac   net.HardwareAddr
	began time.Time
	http  *http.Client
	f     *Figures
}

// obtain asks for an address, which must be the one that the node has.
func (n *node) obtain(ctx context.Context, k Kind, waits []time.Duration) error {
	began := time.Now()
	ack, sent, err := n.b.Ether.Obtain(ctx, n.mac, k, waits)
	n.f.Messages += sent
	if k != Firmware {
		n.f.Later = max(n.f.Later, time.Since(began))
	}
	if err != nil {
		return err
	}
	a := Address(ack)
	if n.f.Address.IsValid() && n.f.Address != a {
		return fmt.Errorf("its address has become %s", a)
	}
	n.f.Address = a
	return nil
}

func (n *node) firmware(ctx context.Context) error {
	err := n.obtain(ctx, Firmware, firmwareWaits)
	n.f.Lease = time.Since(n.began)
	return err
}

func (n *node) program(ctx context.Context) error {
	began := time.Now()
	server := &net.UDPAddr{IP: net.ParseIP(ServerAddr), Port: 69}
	err := again(ctx, n.f, func() error {
		sum := crc32.NewIEEE()
		_, k, err := TFTP{Server: server, Block: 1468, Retries: 4, Wait: time.Second}.Get(n.f.Address, n.b.Program, sum)
		n.f.Again += k
		if want := n.b.Sums["tftp:"+n.b.Program]; err == nil && sum.Sum32() != want {
			return fmt.Errorf("%s is not what it should be", n.b.Program)
		}
		return err
	})
	n.f.TFTP = time.Since(began)
	return err
}

func (n *node) ipxe(ctx context.Context) error {
	if err := n.obtain(ctx, IPXE, ipxeWaits); err != nil {
		return err
	}
	n.http = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: n.f.Address.AsSlice()}, Timeout: 20 * time.Second}).DialContext}}
	return nil
}

// linux gets the script, and what it names, each by a connection of its own.
func (n *node) linux(ctx context.Context) error {
	began := time.Now()
	var text bytes.Buffer
	if err := n.get(ctx, "/boot/ipxe?mac="+n.mac.String(), "", &text); err != nil {
		return err
	}
	for word := range strings.FieldsSeq(text.String()) {
		path, ok := strings.CutPrefix(word, n.b.URL+"/files")
		if !ok {
			continue
		}
		sum := crc32.NewIEEE()
		if err := n.get(ctx, "/files"+path, "", sum); err != nil {
			return err
		}
		if sum.Sum32() != n.b.Sums["/files"+path] {
			return fmt.Errorf("/files%s is not what it should be", path)
		}
	}
	n.f.Kernel = time.Since(began)
	return nil
}

// system is the operating system: init and the daemon.
func (n *node) system(ctx context.Context) error {
	defer n.http.CloseIdleConnections()
	if err := n.obtain(ctx, System, ipxeWaits); err != nil {
		return err
	}
	for _, s := range []bootstage.Stage{bootstage.Init, bootstage.Modules, bootstage.Network, bootstage.Clock, bootstage.Config, bootstage.Daemon, bootstage.Image,
		bootstage.Container, bootstage.Running} {
		if err := n.report(ctx, s, bootstage.Begun); err != nil {
			return err
		}
		if s == bootstage.Image {
			if err := n.image(ctx); err != nil {
				return err
			}
		}
		if s.Before(bootstage.Network) {
			continue
		}
		if err := n.report(ctx, s, bootstage.Done); err != nil {
			return err
		}
	}
	return nil
}

// image reads parts here and there, as a lazy file system does.
func (n *node) image(ctx context.Context) error {
	const part = 64 << 10
	for range n.b.Parts {
		at := rand.Int64N(n.b.Size-part) / 4096 * 4096
		var got counting
		if err := n.get(ctx, n.b.Image, fmt.Sprintf("bytes=%d-%d", at, at+part-1), &got); err != nil {
			return err
		}
		if got != part {
			return fmt.Errorf("a range of %d bytes has %d", part, got)
		}
	}
	return nil
}

type counting int64

func (c *counting) Write(p []byte) (int, error) {
	*c += counting(len(p))
	return len(p), nil
}

func (n *node) report(ctx context.Context, stage bootstage.Stage, state bootstage.State) error {
	up := time.Since(n.began).Milliseconds()
	return again(ctx, n.f, func() error {
		body, err := json.Marshal(bootstage.Report{MAC: n.mac.String(), Stage: stage, State: state, Uptime: up, Sent: time.Since(n.began).Milliseconds()})
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.b.URL+"/report", bytes.NewReader(body))
		if err != nil {
			return err
		}
		return n.do(req, http.StatusNoContent, io.Discard)
	})
}

// get fetches all or a range; to is written to anew for each try, if it knows Reset.
func (n *node) get(ctx context.Context, path, span string, to io.Writer) error {
	return again(ctx, n.f, func() error {
		if r, ok := to.(interface{ Reset() }); ok {
			r.Reset()
		}
		if c, ok := to.(*counting); ok {
			*c = 0
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.b.URL+path, nil)
		if err != nil {
			return err
		}
		want := http.StatusOK
		if span != "" {
			req.Header.Set("Range", span)
			want = http.StatusPartialContent
		} else {
			req.Close = true // as iPXE does
		}
		return n.do(req, want, to)
	})
}

func (n *node) do(req *http.Request, want int, to io.Writer) error {
	resp, err := n.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n.b.Status(resp.StatusCode)
	if resp.StatusCode != want {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // for the message alone
		return fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, text)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

// again tries for a minute, with pauses.
func again(ctx context.Context, f *Figures, fn func() error) error {
	deadline := time.Now().Add(time.Minute)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 4*time.Second) {
		err := fn()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		f.Retries++
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return err
		}
	}
}
