package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/clock"
	"github.com/windlass-hpc/windlass/initramfs/boot/devices"
	"github.com/windlass-hpc/windlass/initramfs/boot/image"
	"github.com/windlass-hpc/windlass/initramfs/boot/network"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// entropy waits until the kernel has random numbers to give, which TLS needs. The kernel makes them of what happens; it is only waited, and
// told when that takes long.
func (n *node) entropy(ctx context.Context) {
	var b [1]byte
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err == nil {
		return
	}
	began := time.Now()
	done := make(chan struct{})
	go func() { _, _ = unix.Getrandom(b[:], 0); close(done) }()
	select {
	case <-done:
		n.j.Say(bootstage.Init, "random numbers after %.1f s", time.Since(began).Seconds())
	case <-time.After(10 * time.Second):
		n.j.Say(bootstage.Init, "the kernel has no random numbers yet: give the machine a source of them (virtio-rng, RDRAND); the boot goes on")
	case <-ctx.Done():
	}
}

// modules loads the drivers.
func (n *node) modules(ctx context.Context) {
	s := n.j.Begin(bootstage.Modules)
	l, err := kmod.OpenLoader("/", kmod.CommandLine(n.line))
	if err != nil {
		s.Failed(err) // a kernel that has all in itself goes on
		return
	}
	if _, err := devices.Nodes(ctx, "/dev", l.Nodes()); err != nil { // before anything that may want one, such as a chunkfs image /dev/fuse
		s.Failed(err)
	}
	r, err := devices.Plug(ctx, devices.Config{Loader: l, Sys: "/sys", Quiet: 150 * time.Millisecond, Most: 30 * time.Second, Say: s.Say})
	if err != nil {
		s.Failed(err)
	}
	quiet := ""
	if !r.Quiet {
		quiet = "; still new ones come"
	}
	loaded, _ := os.ReadFile("/proc/modules") // a kernel without modules has none
	s.Done("%d kinds of devices, %d modules%s", r.Devices, strings.Count(string(loaded), "\n"), quiet)
}

// commands links the commands that end the node, where nobody else has put some.
func (n *node) commands() {
	for _, name := range []string{"poweroff", "reboot", "halt"} {
		_ = os.Symlink(self(), "/sbin/"+name) // there may be others
	}
}

// network brings it up, and waits as long as it takes for the first device.
func (n *node) network(ctx context.Context) bool {
	if n.opts.NoNetwork {
		n.name(network.Settings{})
		return true
	}
	s := n.j.Begin(bootstage.Network)
	net := startNetwork(ctx, n.reaper, network.Config{Links: n.opts.Links, BootMAC: n.opts.BootMAC, Hostname: n.opts.Hostname,
		Resolv: "/etc/resolv.conf"}, s.Say)
	n.mu.Lock()
	n.net = net
	n.mu.Unlock()
	for wait := time.Minute; ; {
		some, cancel := context.WithTimeout(ctx, wait)
		got, err := net.Wait(some)
		cancel()
		if err == nil {
			n.name(got)
			if n.reports != nil && !n.needsClock(n.opts.Report) {
				n.reports.Network()
			}
			n.well(bootstage.Network)
			s.Done("%s, as %s", &got, n.hostname)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		err = errors.New("no device has an address yet; it is tried on")
		s.Failed(err)
		if n.first(bootstage.Network) {
			n.call(ctx, bootstage.Network, trouble{why: "there is no network; it is tried on meanwhile", err: err})
		}
		wait = min(2*wait, 10*time.Minute)
	}
}

// name gives the node a name: asked for, from DHCP, or made of its address, so that no two have the same.
func (n *node) name(got network.Settings) {
	name := n.opts.Hostname
	if name == "" {
		name = got.Hostname
	}
	if name == "" {
		name = "node"
		if n.net != nil {
			name += "-" + strings.ReplaceAll(n.net.MAC().String(), ":", "")
		}
	}
	n.mu.Lock()
	n.hostname = name
	n.mu.Unlock()
	if err := unix.Sethostname([]byte(name)); err != nil {
		n.j.Say(bootstage.Network, "host name %s: %v", name, err)
	}
	_ = os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644) //nolint:gosec // everybody may know it
}

// clock sets the clock. A node with a wrong one boots on: only TLS minds.
func (n *node) clock(ctx context.Context) {
	if n.opts.NoNetwork {
		return
	}
	s := n.j.Begin(bootstage.Clock)
	c := clock.Config{Servers: n.opts.NTP, Timeout: 4 * time.Second}
	if len(c.Servers) == 0 {
		if got, err := n.net.Wait(ctx); err == nil {
			c.Servers = got.NTP
		}
	}
	for _, u := range []string{n.opts.Config, n.opts.Container, n.opts.Report} {
		if strings.HasPrefix(u, "http://") || n.needsClock(u) {
			c.URLs = append(c.URLs, u)
		}
	}
	r, err := clock.Adjust(ctx, c)
	now := time.Now().UTC().Format(time.RFC3339)
	if n.reports != nil {
		n.reports.Network()
	}
	switch {
	case err != nil && r.Set:
		s.Done("nobody told the time (%v); it was behind by years and is set to %s, when this windlass was made: a certificate that is younger is not taken", err, now)
	case err != nil && clock.Plausible(time.Now()):
		s.Done("nobody told the time (%v); it may be %s", err, now)
	case err != nil:
		s.Failed(fmt.Errorf("the clock says %s, which cannot be, so certificates cannot be judged: %w", now, err))
	case r.Set:
		s.Done("set to %s, from %s; it was behind by %s", now, r.From, r.Off.Round(time.Second))
	case r.Off < -time.Second:
		s.Done("%s says that the clock is ahead by %s; it is left: %s", r.From, (-r.Off).Round(time.Second), now)
	default:
		s.Done("right, says %s: %s", r.From, now)
	}
}

// needsClock says whether nothing can be had of the URL before the clock is set: certificates would not be good yet.
func (n *node) needsClock(url string) bool {
	return strings.HasPrefix(url, "https://") && !clock.Plausible(time.Now())
}

// configuration fetches that of the daemon. Without it the daemon is not started: it would not be what was asked for.
func (n *node) configuration(ctx context.Context) bool {
	if n.opts.Config == "" {
		return true
	}
	s, proof := n.j.Begin(bootstage.Config), image.Proof(n.opts.ConfigProof)
	for failures := 1; ; failures++ {
		data, comment, err := image.Read(ctx, n.fetch, "windlass.config", n.opts.Config, proof)
		if err == nil {
			if n.configPath, err = image.Keep(stateDir, data); err == nil {
				n.well(bootstage.Config)
				s.Done("%s, %d bytes%s", image.Shown(n.opts.Config), len(data), image.Proven(proof, comment))
				return true
			}
		}
		if !n.again(ctx, bootstage.Config, s, failures, err) {
			return false
		}
	}
}
