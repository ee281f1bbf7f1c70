package iscsi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	// diskWait is how long a LUN may take to become a disk once the session is logged in.
	diskWait = 30 * time.Second
	poll     = 5 * time.Millisecond
	maxPoll  = 100 * time.Millisecond
)

// takeLUN has the kernel look for the LUN and sets up its disk. It ends when the connection is lost: nobody has the device yet, so there
// is no point in waiting for the target to come back.
func (l *link) takeLUN(ctx context.Context, readOnly bool) (disk, error) {
	ctx, cancel := context.WithTimeout(ctx, diskWait)
	defer cancel()
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	go func() {
		select {
		case why := <-l.session.Lost():
			lose(errLost{why})
		case <-ctx.Done():
		}
	}()
	found, err := l.scan(ctx)
	if err == nil {
		found, err = l.setUp(ctx, found, readOnly)
	}
	var lost errLost
	if errors.As(context.Cause(ctx), &lost) {
		err := fault.New(fault.Backend, "%s while LUN %d was looked at", lost.why, l.wanted.lun)
		return disk{}, fault.Hintf(err, "try again; the target's log may say why")
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err := fault.New(fault.Timeout, "LUN %d of %s has not become a disk in time: %w", l.wanted.lun, l.wanted.target, err)
		return disk{}, fault.Hintf(err, "the target answers slowly, or not at all: its log and load may say why")
	}
	return found, err
}

// errLost says why the connection was lost.
type errLost struct{ why string }

func (e errLost) Error() string { return e.why }

// scan has the kernel look at the one LUN, and waits for its disk.
func (l *link) scan(ctx context.Context) (disk, error) {
	err := step.Do(ctx, "iscsi.scan", func(ctx context.Context) error {
		file := filepath.Join(l.driver.sys, "class/scsi_host", fmt.Sprintf("host%d", l.session.Host), "scan")
		return l.driver.cfg.Helper.Write(ctx, file, fmt.Appendf(nil, "0 0 %d", kernelLUN(l.wanted.lun)))
	})
	if err != nil {
		return disk{}, fmt.Errorf("have the kernel look for LUN %d: %w", l.wanted.lun, err)
	}
	for pause := poll; ; pause = min(2*pause, maxPoll) {
		s, there, err := l.driver.find(l.session.ID)
		if err != nil {
			return disk{}, err
		}
		if !there {
			return disk{}, fault.New(fault.Backend, "the session has gone while LUN %d was looked at", l.wanted.lun)
		}
		dir, err := s.unit(kernelLUN(l.wanted.lun))
		if err != nil {
			return disk{}, err
		}
		if dir == "" {
			return disk{}, l.noLUN(ctx)
		}
		if err := l.isDisk(dir); err != nil {
			return disk{}, err
		}
		k, ok, err := readDisk(dir)
		if err != nil {
			return disk{}, err
		}
		if ok && exists(filepath.Join(dir, "block", k.name, schedulerFile)) {
			return k, nil
		}
		if err := after(ctx, pause); err != nil {
			return disk{}, fmt.Errorf("wait for the disk of LUN %d: %w", l.wanted.lun, err)
		}
	}
}

// kernelLUN is the number that the kernel has for a LUN: above 255 it holds the way of addressing, flat space, as targets report it (SAM-5,
// 4.7).
func kernelLUN(lun int) int {
	if lun > 255 {
		return lun | 0x4000
	}
	return lun
}

// noLUN is the error for a LUN that the target does not have. It says which it has.
func (l *link) noLUN(ctx context.Context) error {
	text := fmt.Sprintf("%s has no LUN %d", l.wanted.target, l.wanted.lun)
	auth, err := l.driver.auth(l.wanted)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		var all []int
		all, err = login.LUNs(ctx, l.portal.Address(), login.Config{Initiator: l.wanted.initiator, Target: l.wanted.target, Auth: auth})
		if err == nil {
			text += ", only " + strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ", "), "[]")
			if len(all) == 0 {
				text = fmt.Sprintf("%s has no LUN at all for %s", l.wanted.target, l.wanted.initiator)
			}
		}
	}
	return fault.Hintf(fault.New(fault.NotFound, "%s", text), "check lun, and what the target exports to this initiator")
}

// isDisk fails for a LUN that is something else.
func (l *link) isDisk(dir string) error {
	kind, err := attribute(dir, "type")
	if err != nil {
		return err
	}
	switch kind {
	case "", "0", "5", "7", "14": // not told yet; disks, CDs, optical memory, simple disks
		return nil
	}
	what := map[string]string{"1": "a tape", "3": "a processor", "8": "a changer", "12": "a storage controller", "13": "an enclosure"}[kind]
	if what == "" {
		what = "something else"
	}
	err = fault.New(fault.Invalid, "LUN %d of %s is no disk but %s (SCSI type %s)", l.wanted.lun, l.wanted.target, what, kind)
	return fault.Hintf(err, "many targets have a controller as LUN 0 and disks from LUN 1 on")
}
