package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pool makes a pool for images.
func (c *Ceph) Pool(ctx context.Context, name string) error {
	if _, err := c.ceph(ctx, "osd", "pool", "create", name, "8", "8", "replicated"); err != nil {
		return err
	}
	_, err := c.ceph(ctx, "osd", "pool", "application", "enable", name, "rbd")
	return err
}

// Conf is the path of the cluster's configuration, which names the keyring of client.admin. With it in CEPH_CONF, rbd, ceph and librados find
// the cluster.
func (c *Ceph) Conf() string { return filepath.Join(c.cfg.Dir, "ceph.conf") }

// Env is the environment for programs of Ceph.
func (c *Ceph) Env() []string { return []string{"CEPH_CONF=" + c.Conf(), "CEPH_ARGS="} }

// FSID is the cluster's name of itself.
func (c *Ceph) FSID() string { return c.fsid }

// Monitors gives the addresses of the monitors with their ports, by the old protocol or, with msgr2, by the new one.
func (c *Ceph) Monitors(msgr2 bool) []string {
	var list []string
	for i := range c.cfg.Mons {
		v2, v1 := monPorts(i)
		if msgr2 {
			v1 = v2
		}
		list = append(list, net.JoinHostPort(c.cfg.Addr.String(), strconv.Itoa(v1)))
	}
	return list
}

// Run runs a program of Ceph, such as rbd, ceph or ceph-authtool, on this cluster as client.admin and gives its output.
func (c *Ceph) Run(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	return run(ctx, c.Env(), stdin, name, args...)
}

// ceph runs an order to the monitors.
func (c *Ceph) ceph(ctx context.Context, args ...string) ([]byte, error) {
	return c.Run(ctx, nil, "ceph", args...)
}

// User makes a user, such as client.node, and gives its key. caps are pairs: "mon", "profile rbd", "osd", "profile rbd-read-only".
func (c *Ceph) User(ctx context.Context, entity string, caps ...string) (string, error) {
	if _, err := c.ceph(ctx, append([]string{"auth", "get-or-create", entity}, caps...)...); err != nil {
		return "", err
	}
	return c.Key(ctx, entity)
}

// Key gives the key of a user, such as client.admin.
func (c *Ceph) Key(ctx context.Context, entity string) (string, error) {
	out, err := c.ceph(ctx, "auth", "print-key", entity)
	return strings.TrimSpace(string(out)), err
}

// Signal sends a signal to a daemon and waits until it has worked: SIGSTOP, SIGCONT, SIGTERM or SIGKILL.
func (c *Ceph) Signal(ctx context.Context, name string, sig syscall.Signal) error {
	p, err := c.process(name)
	if err != nil {
		return err
	}
	if err := p.signal(ctx, sig); err != nil {
		return err
	}
	if p == c.osd && sig == unix.SIGKILL && !c.cfg.Durable {
		c.osdLost.Store(true)
	}
	return nil
}

// Start starts a daemon that has ended and waits until it serves again.
func (c *Ceph) Start(ctx context.Context, name string) error {
	p, err := c.process(name)
	if err != nil {
		return err
	}
	if p == c.osd && c.osdLost.Load() {
		return errors.New("start osd.0: it kept its data in memory and has lost them when it was killed; start the cluster with Durable, or end it by SIGTERM")
	}
	if err := p.start(); err != nil {
		return err
	}
	return c.ready(ctx, p)
}

func (c *Ceph) process(name string) (*process, error) {
	switch {
	case name == "osd" || name == "osd.0":
		return c.osd, nil
	case name == "mon":
		return c.mons[0], nil
	}
	for _, m := range c.mons {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("the cluster in %s has no daemon %q", c.cfg.Dir, name)
}

// Stop ends the cluster. Its files stay. It may be called again.
func (c *Ceph) Stop() error {
	var errs []error
	if c.osd != nil {
		errs = append(errs, c.osd.end(context.Background(), unix.SIGKILL))
	}
	for i := range c.mons {
		errs = append(errs, c.mons[len(c.mons)-1-i].end(context.Background(), unix.SIGKILL))
	}
	return errors.Join(errs...)
}
