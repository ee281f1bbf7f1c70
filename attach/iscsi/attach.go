package iscsi

import (
	"context"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Attach logs in and takes one LUN. In order:
//
//  1. find out where the target is (discovery, names), and connect, one address after the other;
//  2. make the session, bind it to the connection, give it its name;
//  3. log in, set the parameters agreed on, start the session;
//  4. have the kernel look for the LUN, wait for its disk, set it up;
//  5. keep the session from now on, and note in the kernel that it is complete.
func (d *Driver) Attach(ctx context.Context, id attach.ID, spec *models.Attach, base attach.Base) (dev attach.Device, err error) {
	if err := d.Validate(spec); err != nil {
		return attach.Device{}, err
	}
	if err := ctx.Err(); err != nil {
		return attach.Device{}, err
	}
	w := wish(spec.Iscsi)
	kernel, err := d.open(ctx)
	if err != nil {
		return attach.Device{}, fmt.Errorf("attach %s: %w", w.target, err)
	}
	var u undo.Stack
	defer func() {
		if err = u.Unwind(ctx, err); err != nil {
			dev, err = attach.Device{}, fmt.Errorf("attach %s: %w", w.target, err)
		}
	}()
	l := &link{driver: d, id: id, wanted: w, kernel: kernel}
	u.Push("remove the session", func(ctx context.Context) error { return l.remove(ctx) })
	if err := l.login(ctx); err != nil {
		return attach.Device{}, err
	}
	found, err := l.takeLUN(ctx, base.ReadOnly)
	if err != nil {
		return attach.Device{}, err
	}
	if err := l.complete(ctx); err != nil {
		return attach.Device{}, err
	}
	if err := ctx.Err(); err != nil {
		return attach.Device{}, err
	}
	d.keep(id, l)
	return attach.Device{ID: id, Number: int64(l.session.ID), Path: found.path(), DevNum: found.devnum, ReadOnly: found.readOnly}, nil
}

// link is a session on its way up, or kept up.
type link struct {
	driver  *Driver
	id      attach.ID
	wanted  wanted
	kernel  *netlink.Kernel
	session *netlink.Session // nil before there is one
	unsure  bool             // there may be one that we have not heard of
	bound   bool             // it has had a connection
	portal  login.Portal     // where it is logged in
}

// remove takes away what there is of the session. Nobody else knows of it.
func (l *link) remove(ctx context.Context) error {
	if l.session == nil && l.unsure {
		return l.removePromised(ctx)
	}
	if l.session == nil {
		return nil
	}
	defer l.session.Close()
	if err := l.driver.tearDown(ctx, l.session); err != nil {
		return err
	}
	return l.driver.fulfil(l.id)
}

// removePromised takes away the session that the kernel may have made without our hearing of it.
func (l *link) removePromised(ctx context.Context) error {
	all, err := l.driver.ours(l.id)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := l.driver.abort(ctx, l.kernel, s); err != nil {
			return err
		}
	}
	return l.driver.fulfil(l.id)
}

// login does what there is to do until the session is logged in, within the time for a login.
func (l *link) login(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.wanted.loginTimeout)
	defer cancel()
	auth, err := l.driver.auth(l.wanted)
	if err != nil {
		return err
	}
	places, err := l.places(ctx, auth)
	if err != nil {
		return err
	}
	return l.tryEach(ctx, places, auth)
}

// complete notes in the kernel that nothing is left to be done.
func (l *link) complete(ctx context.Context) error {
	return step.Do(ctx, "iscsi.complete", func(ctx context.Context) error { return l.note(ctx) })
}

// after waits, unless ctx ends.
func after(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
