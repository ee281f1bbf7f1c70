package iscsi

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/holders"
)

const (
	// useWait is how long Detach waits for a device that is in use: the last mount of a container goes a moment after its processes.
	useWait = time.Second
	// forceUseWait is useWait with force. It is not 0: a look at the device is not to count as a use.
	forceUseWait = 100 * time.Millisecond
	// openWait is how long a look at whether a disk is claimed may take. The kernel reports a claim at once, but there is a process to start.
	openWait = 1500 * time.Millisecond
)

// claim takes the session's disks for itself.
func (d *Driver) claim(ctx context.Context, s session, force bool) (claims []*os.File, err error) {
	deadline := time.Now().Add(useWait)
	if force {
		deadline = time.Now().Add(forceUseWait)
	}
	disks, err := s.disks()
	if err != nil {
		return nil, err
	}
	for _, k := range disks {
		f, err := d.claimDisk(ctx, k, deadline)
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
func (d *Driver) claimDisk(ctx context.Context, k disk, deadline time.Time) (*os.File, error) {
	for pause := poll; ; pause = min(2*pause, maxPoll) {
		users := openers(k)
		if len(users) == 0 {
			f, err := d.tryClaim(ctx, k)
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

func (d *Driver) tryClaim(ctx context.Context, k disk) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	f, err := d.openDisk(ctx, k, unix.O_EXCL)
	var held *helper.Stuck
	var errno unix.Errno
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, helper.ErrStart):
		return nil, err
	case errors.As(err, &held), errors.Is(err, errHeldUp), errors.As(err, &errno):
		return nil, nil // the kernel holds the call up, or the disk is gone or dead: nobody's
	}
	return f, err
}

// openers says who has the disk. The kernel does not forbid a claim to those who only have it open.
func openers(k disk) []string {
	all := holders.OfDevice(k.devnum)
	if len(all) == 1 && strings.HasPrefix(all[0], "the search took too long") {
		return nil
	}
	return all
}

// errHeldUp says that the kernel still holds up an earlier call.
var errHeldUp = errors.New("an earlier try to open it has not come back yet")

// openDisk opens a disk read-only, with more flags. A target that is silent can make the kernel hold the call up where no signal ends it:
// then it is a helper that waits, one for each disk.
func (d *Driver) openDisk(ctx context.Context, k disk, flags int) (*os.File, error) {
	if len(d.cfg.Helper.LeftAt(k.path(), helper.OpOpen)) > 0 {
		return nil, fault.New(fault.Timeout, stuck+"open %s: %w", k.path(), errHeldUp)
	}
	f, err := d.cfg.Helper.Open(ctx, k.path(), unix.O_RDONLY|unix.O_NONBLOCK|flags)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && uint64(st.Rdev) != k.devnum {
		err = unix.ENXIO
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: k.path(), Err: err}
	}
	return f, nil
}
