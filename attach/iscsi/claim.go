package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/holders"
)

const (
	// useWait is how long Detach waits for a device that is in use: the last mount of a container goes a moment after its processes.
	useWait = time.Second
	// forceUseWait is useWait with force. It is not 0: a look at the device is not to count as a use.
	forceUseWait = 100 * time.Millisecond
	// openWait is how long the kernel may hold up a look at whether a disk is claimed; a claim it reports at once.
	openWait = 500 * time.Millisecond
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

// openDisk opens a disk read-only, with more flags. A target that is silent can make the kernel hold the call up: when ctx ends first, the
// file is closed when it is open at last.
func openDisk(ctx context.Context, k disk, flags int) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened)
	go func() {
		fd, err := unix.Open(k.path(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
		var f *os.File
		if err == nil {
			f = os.NewFile(uintptr(fd), k.path())
			var st unix.Stat_t
			if err = unix.Fstat(fd, &st); err == nil && uint64(st.Rdev) != k.devnum {
				err = unix.ENXIO
			}
		}
		select {
		case done <- opened{f, err}:
		case <-ctx.Done():
			if f != nil {
				f.Close()
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			if o.f != nil {
				o.f.Close()
			}
			return nil, &os.PathError{Op: "open", Path: k.path(), Err: o.err}
		}
		return o.f, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("open %s: %w", k.path(), ctx.Err())
	}
}
