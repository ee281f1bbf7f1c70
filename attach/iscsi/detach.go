package iscsi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	// flushWait is how long Detach with force waits for the target to write what it holds in memory.
	flushWait  = 2 * time.Second
	logoutWait = time.Second
)

// Detach takes the attachment's session away. In order:
//
//  1. claim the disk, so that nobody mounts it any more; Busy when somebody has it;
//  2. give up keeping the session;
//  3. remove the disk, which has the target write what it holds, while the target answers;
//  4. log out, while the target answers;
//  5. stop the connection for good, destroy connection and session, wait until they have gone.
//
// A session whose connection is lost loses nothing by 5 alone: what was written has been confirmed, or its writer still has the disk open.
func (d *Driver) Detach(ctx context.Context, dev attach.Device, force bool) error {
	all, err := d.ours(dev.ID)
	if err != nil {
		return fmt.Errorf("detach iscsi %d: %w", dev.ID, err)
	}
	for _, s := range all {
		err := d.detach(ctx, dev.ID, s, force)
		switch {
		case err == nil:
		case strings.HasPrefix(err.Error(), stuck):
			return err
		case errors.Is(err, context.DeadlineExceeded):
			return fault.New(fault.Timeout, stuck+"the session with %s at %s has not come down: %w", s.target, s.portal, err)
		default:
			return fmt.Errorf("detach iscsi %d: %w", dev.ID, err)
		}
	}
	d.forget(dev.ID)
	return d.fulfil(dev.ID)
}

// stuck begins the text of errors about storage that does not answer.
const stuck = "stuck: "

func (d *Driver) detach(ctx context.Context, id attach.ID, s session, force bool) error {
	claims, err := d.claim(ctx, s, force)
	defer func() {
		for _, f := range claims {
			f.Close()
		}
	}()
	if err != nil {
		return err
	}
	kernel, err := d.open(ctx)
	if err != nil {
		return err
	}
	d.forget(id)
	l := kernel.Listen(s.id, s.host)
	defer l.Close()
	if s.state == loggedIn && s.complete {
		answers, err := d.removeDisks(ctx, l, s, force)
		if err != nil {
			return err
		}
		if answers {
			d.logOut(ctx, l)
		}
	}
	return d.tearDown(ctx, l)
}

// removeDisks has the kernel remove the disks and waits for it: until they have gone, the connection is lost, or, with force, long enough.
// It tells whether the target answers.
func (d *Driver) removeDisks(ctx context.Context, l *netlink.Session, s session, force bool) (answers bool, err error) {
	err = step.Do(ctx, "iscsi.remove", func(ctx context.Context) error {
		if err := l.Unbind(ctx); err != nil {
			return gone(err)
		}
		enough := make(<-chan time.Time)
		if force {
			enough = time.After(flushWait)
		}
		for pause := poll; ; pause = min(2*pause, maxPoll) {
			left, err := s.units()
			if err != nil {
				return err
			}
			if len(left) == 0 {
				break
			}
			now, there, err := d.find(s.id)
			if err != nil {
				return err
			}
			if !there || now.state != loggedIn {
				return nil
			}
			select {
			case <-l.Woken():
			case <-l.Lost():
				return nil
			case <-enough:
				return nil
			case <-time.After(pause):
			case <-ctx.Done():
				return fault.New(fault.Timeout, stuck+"%s at %s has not yet written what it holds of %s: %w", s.target, s.portal, names(s), ctx.Err())
			}
		}
		answers = true
		return nil
	})
	return answers, err
}

func names(s session) string {
	disks, err := s.disks()
	if err != nil || len(disks) == 0 {
		return "its disk"
	}
	return disks[0].path()
}

// logOut tells the target that we go. Whether it hears it does not matter.
func (d *Driver) logOut(ctx context.Context, l *netlink.Session) {
	_ = step.Do(ctx, "iscsi.logout", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, logoutWait)
		defer cancel()
		if err := l.Send(ctx, login.LogoutRequest(0)); err != nil {
			return nil
		}
		for {
			p, err := l.Receive(ctx)
			if err != nil || p.Opcode() == login.OpLogoutResponse {
				return nil
			}
		}
	})
}

// tearDown takes away connection and session, whatever state they are in, and waits until they have gone. What is in flight fails.
func (d *Driver) tearDown(ctx context.Context, l *netlink.Session) error {
	host := fmt.Sprintf("%s/class/scsi_host/host%d", d.sys, l.Host)
	err := step.Do(ctx, "iscsi.stop", func(ctx context.Context) error { return gone(l.Stop(ctx, netlink.Terminate)) })
	if err != nil {
		return err
	}
	err = step.Do(ctx, "iscsi.disconnect", func(ctx context.Context) error { return gone(l.Disconnect(ctx)) })
	if err != nil {
		return err
	}
	return step.Do(ctx, "iscsi.destroy", func(ctx context.Context) error {
		if err := gone(l.Destroy(ctx)); err != nil {
			return err
		}
		for pause := poll; ; pause = min(2*pause, maxPoll) {
			_, there, err := d.find(l.ID)
			if err != nil {
				return err
			}
			if !there && !exists(host) {
				return nil
			}
			select {
			case <-l.Woken():
			case <-time.After(pause):
			case <-ctx.Done():
				return fault.New(fault.Timeout, stuck+"the kernel has not yet let go of session %d: %w", l.ID, ctx.Err())
			}
		}
	})
}

// gone takes the kernel's word for an object that is not there, or not any more, for success.
func gone(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
