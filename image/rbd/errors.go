package rbd

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// errnoOf gives the number that Ceph answered, or 0. Ceph's numbers are negative.
func errnoOf(err error) syscall.Errno {
	var coded interface{ ErrorCode() int }
	if !errors.As(err, &coded) {
		return 0
	}
	code := coded.ErrorCode()
	return syscall.Errno(max(code, -code))
}

// failed makes an error of one of Ceph's, with what was being done and on what: its number becomes a kind, a text, and a hint. A nil err
// stays nil.
func failed(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	number := errnoOf(err)
	if number == 0 {
		return fmt.Errorf("%s: %w", what, err)
	}
	kind, hint := meaning(number)
	err = fault.New(kind, "%s: %w", what, number)
	if hint != "" {
		err = fault.Hintf(err, "%s", hint)
	}
	return err
}

func meaning(number syscall.Errno) (fault.Kind, string) {
	switch number {
	case syscall.ENOENT:
		return fault.NotFound, ""
	case syscall.EEXIST:
		return fault.Exists, ""
	case syscall.EBUSY, syscall.ENOTEMPTY:
		return fault.Busy, ""
	case syscall.EPERM, syscall.EACCES:
		return fault.Forbidden, "the user's capabilities do not allow it: see `ceph auth get CLIENT`; who publishes needs mon 'profile rbd' osd 'profile rbd pool=POOL'"
	case syscall.ETIMEDOUT:
		return fault.Timeout, "the cluster has not answered in time: see `ceph -s`; --timeout gives it longer"
	case syscall.ENOSPC, syscall.EDQUOT:
		return fault.Unavailable, "the cluster or the pool's quota is full: see `ceph df`"
	case syscall.ESHUTDOWN:
		return fault.Forbidden, "the cluster has shut this client out: see `ceph osd blocklist ls`"
	}
	return fault.Backend, ""
}
