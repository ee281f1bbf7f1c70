package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	// useWait is how long Detach waits for a device that is in use: the last mount of a container goes a moment after its processes.
	useWait = time.Second
	// forceUseWait is useWait with force. It is not 0: a look at the device is not to count as a use.
	forceUseWait = 100 * time.Millisecond
	// openWait is how long the kernel may hold up a look at whether a disk is claimed; a claim it reports at once.
	openWait = 500 * time.Millisecond
	// flushWait is how long Detach with force waits for the target to write what it holds in memory.
	flushWait  = 2 * time.Second
	logoutWait = 2 * time.Second
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
		if err := d.detach(ctx, dev.ID, s, force); err != nil {
			if strings.HasPrefix(err.Error(), stuck) {
				return err
			}
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
	kernel, err := d.open()
	if err != nil {
		return err
	}
	d.forget(id)
	l := kernel.Listen(s.id, s.host)
	defer l.Close()
	if s.state == loggedIn && s.complete {
		if err := d.removeDisks(ctx, l, s, force); err != nil {
			return err
		}
		d.logOut(ctx, l)
	}
	return d.tearDown(ctx, l)
}

// claim takes the session's disks for itself.
func (d *Driver) claim(ctx context.Context, s session, force bool) (claims []*os.File, err error) {
	deadline := time.Now().Add(useWait)
	if force {
		deadline = time.Now().Add(forceUseWait)
	}
	for _, k := range s.disks() {
		f, err := claimDisk(ctx, k, deadline)
		if f != nil {
			claims = append(claims, f)
		}
		if err != nil {
			return claims, err
		}
	}
	return claims, nil
}

// claimDisk gives the disk open for us alone. No file and no error: it has gone, or the kernel holds the call up, which it does only when
// nobody has a claim.
func claimDisk(ctx context.Context, k disk, deadline time.Time) (*os.File, error) {
	for pause := poll; ; pause = min(2*pause, maxPoll) {
		users := openers(k)
		if len(users) == 0 {
			f, err := tryClaim(ctx, k)
			if !errors.Is(err, unix.EBUSY) {
				return f, err
			}
			users = openers(k)
		}
		if time.Now().Add(pause).After(deadline) {
			err := fault.New(fault.Busy, "%s is in use by %s", k.path(), holders.Text(users))
			return nil, fault.Hintf(err, "unmount it, or stop the processes that have it open, then try again")
		}
		if err := after(ctx, pause); err != nil {
			return nil, err
		}
	}
}

func tryClaim(ctx context.Context, k disk) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	f, err := openDisk(ctx, k, unix.O_EXCL)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, err
	case err != nil:
		return nil, nil // gone, dead or slow: nobody's
	}
	return f, nil
}

// openers says who has the disk. The kernel does not forbid a claim to those who only have it open.
func openers(k disk) []string {
	all := holders.OfDevice(k.devnum)
	if len(all) == 1 && strings.HasPrefix(all[0], "the search took too long") {
		return nil
	}
	return all
}

// removeDisks has the kernel remove the disks and waits for it: until they have gone, the connection is lost, or, with force, long enough.
func (d *Driver) removeDisks(ctx context.Context, l *netlink.Session, s session, force bool) error {
	return step.Do(ctx, "iscsi.remove", func(ctx context.Context) error {
		if err := l.Unbind(ctx); err != nil {
			return gone(err)
		}
		enough := make(<-chan time.Time)
		if force {
			enough = time.After(flushWait)
		}
		for pause := poll; len(s.units()) > 0; pause = min(2*pause, maxPoll) {
			if now, ok := d.find(s.id); !ok || now.state != loggedIn {
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
		return nil
	})
}

func names(s session) string {
	disks := s.disks()
	if len(disks) == 0 {
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
			if _, there := d.find(l.ID); !there && !exists(host) {
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
