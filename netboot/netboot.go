// Package netboot boots nodes over the network: DHCP or proxyDHCP, TFTP and HTTP from one configuration, and what is known of each node.
//
// It owns the sockets and the state directory; what a packet is answered with is decided in the packages below it.
package netboot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/dhcp"
	"github.com/windlass-hpc/windlass/netboot/lease"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/ra"
	"github.com/windlass-hpc/windlass/netboot/script"
	"github.com/windlass-hpc/windlass/netboot/tftp"
	"github.com/windlass-hpc/windlass/netboot/web"
)

// saveTime is how often what is known of nodes is written down.
const saveTime = 5 * time.Second

// Load reads a configuration, and compiles its templates. All that is wrong is told at once, of kind Invalid.
func Load(path string) (*config.Config, *script.Set, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := script.Compile(c)
	return c, s, err
}

// Options are what the servers are made of.
type Options struct {
	Site    *config.Config
	Scripts *script.Set
	Log     *logrus.Logger
	// Ready, which may be nil, is called once everything listens, with the URL of the web server or "".
	Ready func(url string) error
}

// server is everything that runs.
type server struct {
	o      Options
	meter  *meter
	nodes  *nodes.Registry
	leases *lease.Table
	trees  []*publish.Tree
	wires  []*dhcp.Server
	tftp   *tftp.Server
	web    *web.Server
	ras    []*ra.Server
}

// Serve serves until ctx ends. It fails at once when something cannot be opened.
func Serve(ctx context.Context, o Options) error {
	s := &server{o: o, meter: newMeter()}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	err := s.run(ctx)
	return errors.Join(err, s.nodes.Save(context.WithoutCancel(ctx)))
}

func (s *server) close() {
	for _, t := range s.trees {
		t.Close()
	}
	if s.leases != nil {
		if err := s.leases.Close(); err != nil {
			s.o.Log.WithError(err).Warn("the file of leases was not closed as it should be")
		}
	}
}

func (s *server) open(ctx context.Context) error {
	c := s.o.Site
	if len(c.Interfaces) == 0 && c.HTTP.Listen == "" && c.TFTP.Listen == "" {
		return fault.New(fault.Invalid, "the configuration leaves nothing to serve: no interfaces, http and tftp are off")
	}
	for _, err := range c.CheckFiles() {
		s.o.Log.WithError(err).Warn("what the configuration names is not there; who needs it will not boot")
	}
	if err := s.openState(); err != nil {
		return err
	}
	if err := s.openFiles(ctx); err != nil {
		return err
	}
	return s.openWires(ctx)
}

// openState reads what an earlier server left.
func (s *server) openState() error {
	c := s.o.Site
	var listed []nodes.Listed
	o := lease.Options{Dir: filepath.Join(c.StateDir, "leases"), Static: map[string]netip.Addr{}}
	for _, n := range c.Nodes {
		listed = append(listed, nodes.Listed{MAC: n.MAC, Name: n.Name, Group: n.Group, IP: n.IP})
		if n.IP.IsValid() {
			o.Static[n.MAC] = n.IP
		}
	}
	for _, sub := range c.Subnets {
		p := lease.Pool{Subnet: sub.Prefix}
		for _, r := range sub.Ranges {
			p.Ranges = append(p.Ranges, lease.Range{First: r.First, Last: r.Last})
		}
		o.Pools = append(o.Pools, p)
		o.Reserved = append(append(append(o.Reserved, sub.DNS...), sub.NTP...), sub.Router)
	}
	for _, i := range c.Interfaces {
		if w, err := dhcp.Resolve(i); err == nil { // else told when it is opened
			o.Reserved = append(o.Reserved, w.Address)
		}
	}
	table, errs := lease.Open(o)
	if table == nil {
		return fault.Hintf(errors.Join(errs...), "state_dir must be a directory that can be written")
	}
	for _, err := range errs {
		s.o.Log.WithError(err).Warn("leases: not all is well with what an earlier server left, or with the disk")
	}
	s.leases, s.nodes = table, nodes.New(listed, nil)
	for _, err := range s.nodes.Keep(c.StateDir) {
		s.o.Log.WithError(err).Warn("what an earlier server knew of the nodes is left out")
	}
	s.meter.watch(s.nodes, s.leases, o.Pools)
	return nil
}

// openFiles opens what is published, and the servers that publish it.
func (s *server) openFiles(ctx context.Context) error {
	c := s.o.Site
	programs := func() map[string]string {
		byName := map[string]string{}
		for _, name := range c.BootPrograms() {
			byName[name] = filepath.Join(c.IPXE.Dir, name)
		}
		return byName
	}
	tree := func(dir string, extra func() map[string]string) *publish.Tree {
		t, err := publish.New(dir, extra)
		if err != nil { // told by CheckFiles
			t, _ = publish.New("", extra) // never fails
		}
		s.trees = append(s.trees, t)
		return t
	}
	var err error
	if c.TFTP.Listen != "" {
		o := tftp.Options{Config: c.TFTP, Tree: tree(c.Files, programs), Nodes: s.nodes, Log: s.o.Log, Meter: s.meter}
		if s.tftp, err = tftp.Listen(ctx, o); err != nil {
			return err
		}
	}
	if c.HTTP.Listen == "" {
		return nil
	}
	s.web = web.New(web.Options{
		Site: c, Scripts: s.o.Scripts, Nodes: s.nodes, Address: s.address, Owner: s.owner,
		Files: tree(c.Files, nil), Images: tree(c.Images, nil), Programs: tree("", programs),
		Metrics: s.meter.handler(), Health: s.health, Log: s.o.Log, Meter: s.meter,
	})
	return s.web.Listen(ctx)
}

// gives reports whether addresses are given by this server on any wire.
func (s *server) gives() bool {
	for _, i := range s.o.Site.Interfaces {
		if i.Mode == config.DHCP {
			return true
		}
	}
	return false
}

func (s *server) address(mac string) (netip.Addr, bool) {
	if !s.gives() {
		return netip.Addr{}, false
	}
	return s.leases.Of(mac)
}

func (s *server) owner(a netip.Addr) (string, bool) {
	if !s.gives() {
		return "", false
	}
	return s.leases.Who(a)
}

// health gives why nodes cannot be served as they should be.
func (s *server) health() error {
	var errs []error
	for _, w := range s.wires {
		errs = append(errs, w.Failing())
	}
	if err := s.leases.Failing(); err != nil {
		errs = append(errs, fmt.Errorf("leases cannot be written: %w", err))
	}
	return errors.Join(errs...)
}

// hinted says what to do about an interface that cannot be served.
func hinted(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fault.Hintf(err, "is another DHCP server running on this machine? ss -lunp 'sport = 67' shows it")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fault.Hintf(err, "ports below 1024 and packet sockets need root")
	case fault.Is(err, fault.NotFound):
		return fault.Hintf(err, "ip link shows what interfaces there are; name one below interfaces")
	}
	return err
}

func (s *server) openWires(ctx context.Context) error {
	h := dhcp.New(dhcp.Options{Site: s.o.Site, Leases: s.leases, Nodes: s.nodes, Node: s.o.Scripts.Node, Programs: s.o.Site.BootPrograms,
		Log: s.o.Log, Meter: s.meter})
	for _, i := range s.o.Site.Interfaces {
		if i.EmptyRA {
			r, err := ra.Listen(i.Name, s.o.Log)
			if err != nil {
				return err
			}
			s.ras = append(s.ras, r)
		}
		if i.Mode == config.Off {
			continue
		}
		w, err := dhcp.Listen(ctx, h, i)
		if err != nil {
			return hinted(err)
		}
		s.wires = append(s.wires, w)
	}
	return nil
}
