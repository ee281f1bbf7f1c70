package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
)

// CephConfig says what cluster to start.
type CephConfig struct {
	Dir string // a short path; it is made
	// Addr is where all daemons listen: not on the loopback network, or other machines are told a wrong address. A cluster has one family of
	// addresses: Linux refuses monitors that have both ("another match of type in addrvec").
	Addr netip.Addr
	// Mons is how many monitors there are, mon.a, mon.b and so on, each with ports of its own; 0 is one.
	Mons int
	// Durable makes the OSD keep what was written when it is killed, which takes three seconds longer. Else it keeps its data in memory, and
	// is not started again after SIGKILL; after SIGTERM it is.
	Durable bool
	// Settings are more of ceph.conf, such as osd_client_watch_timeout: "10".
	Settings map[string]string
}

// Ceph is a running cluster: monitors and osd.0, with cephx, the pool rbd, and no replicas.
//
// Its methods may be called at the same time. Processes are named osd, mon (the first monitor), mon.a, mon.b and so on.
type Ceph struct {
	cfg     CephConfig
	fsid    string
	osdUUID string
	mons    []*process
	osd     *process
	osdLost atomic.Bool // the OSD was killed and has lost its data
}

// StartCeph starts a cluster of its own below cfg.Dir and answers when images can be made in the pool rbd: in about 1.5 s on a quiet
// machine. When it fails nothing is left running.
func StartCeph(ctx context.Context, cfg CephConfig) (_ *Ceph, err error) {
	cfg.Mons = max(cfg.Mons, 1)
	c := &Ceph{cfg: cfg, fsid: newUUID(), osdUUID: newUUID()}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start a Ceph cluster in %s: %w", cfg.Dir, errors.Join(err, c.Stop()))
		}
	}()
	for _, step := range []func(context.Context) error{c.files, c.keys, c.startMons, c.makeOSD, c.makePool} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// files makes directories and configuration.
func (c *Ceph) files(context.Context) error {
	if err := makeDir(c.cfg.Dir); err != nil {
		return err
	}
	dirs := []string{"run", "log", "osd"}
	for i := range c.cfg.Mons {
		dirs = append(dirs, "mon."+monName(i))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(c.cfg.Dir, d), 0o700); err != nil {
			return err
		}
	}
	return c.writeConf()
}

// keys makes the keys of the daemons and of client.admin.
func (c *Ceph) keys(ctx context.Context) error {
	all := []string{"--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"}
	for i, entity := range []string{"client.admin", "mon.", "osd.0"} {
		args := []string{c.keyring(), "--gen-key", "-n", entity}
		if i == 0 {
			args = append(args, "--create-keyring")
		}
		if entity == "osd.0" {
			all[2] = "allow profile osd"
		}
		if _, err := c.Run(ctx, nil, "ceph-authtool", append(args, all...)...); err != nil {
			return err
		}
	}
	return nil
}

func (c *Ceph) startMons(ctx context.Context) error {
	monmap := filepath.Join(c.cfg.Dir, "monmap")
	args := []string{"--create", "--clobber", "--fsid", c.fsid}
	for i := range c.cfg.Mons {
		args = append(args, "--addv", monName(i), c.addrv(i))
	}
	if _, err := c.Run(ctx, nil, "monmaptool", append(args, monmap)...); err != nil {
		return err
	}
	for i := range c.cfg.Mons {
		if _, err := c.Run(ctx, nil, "ceph-mon", "-c", c.Conf(), "-i", monName(i), "--mkfs", "--monmap", monmap, "--keyring", c.keyring()); err != nil {
			return err
		}
		mon := newProcess(filepath.Join(c.cfg.Dir, "log"), "mon."+monName(i), "ceph-mon", "-c", c.Conf(), "-i", monName(i), "-f", "--setuser", "root")
		if err := mon.start(); err != nil {
			return err
		}
		c.mons = append(c.mons, mon)
	}
	return nil
}

// makeOSD makes and starts osd.0. Its store is made while the monitors elect a leader.
func (c *Ceph) makeOSD(ctx context.Context) error {
	made := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, nil, "ceph-osd", "-c", c.Conf(), "-i", "0", "--mkfs", "--osd-uuid", c.osdUUID, "--osdspec-affinity", "", "--no-mon-config")
		made <- err
	}()
	var known error
	for _, mon := range c.mons {
		known = errors.Join(known, c.ready(ctx, mon))
	}
	if known == nil {
		_, known = c.ceph(ctx, "osd", "new", c.osdUUID, "0")
	}
	if err := errors.Join(<-made, known); err != nil {
		return err
	}
	c.osd = newProcess(filepath.Join(c.cfg.Dir, "log"), "osd.0", "ceph-osd", "-c", c.Conf(), "-i", "0", "-f", "--setuser", "root")
	if err := c.osd.start(); err != nil {
		return err
	}
	return c.ready(ctx, c.osd)
}

func (c *Ceph) makePool(ctx context.Context) error { return c.Pool(ctx, "rbd") }

func (c *Ceph) keyring() string { return filepath.Join(c.cfg.Dir, "keyring") }

func monName(i int) string { return string(rune('a' + i)) }

func monPorts(i int) (v2, v1 int) { return 3300 + i, 6789 + i }

// addrv is how Ceph writes the addresses of a monitor.
func (c *Ceph) addrv(i int) string {
	v2, v1 := monPorts(i)
	host := netip.AddrPortFrom(c.cfg.Addr, uint16(v2))
	return fmt.Sprintf("[v2:%v,v1:%v]", host, netip.AddrPortFrom(c.cfg.Addr, uint16(v1)))
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
