package rbd

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// coded is an error as go-ceph makes them.
type coded int

func (c coded) Error() string  { return "rbd: ret=something" }
func (c coded) ErrorCode() int { return int(c) }

func TestFailed(t *testing.T) {
	if failed(nil, "x") != nil {
		t.Error("nothing has failed")
	}
	for code, kind := range map[int]fault.Kind{-2: fault.NotFound, -1: fault.Forbidden, -13: fault.Forbidden, -16: fault.Busy, -110: fault.Timeout, -17: fault.Exists, -5: fault.Backend, -28: fault.Unavailable} {
		err := failed(coded(code), "open %s", "rbd:a/b")
		if !fault.Is(err, kind) || !errors.Is(err, syscall.Errno(-code)) || err.Error() != "open rbd:a/b: "+syscall.Errno(-code).Error() {
			t.Errorf("%d: %v, %s", code, err, fault.KindOf(err))
		}
	}
	if err := failed(errors.New("other"), "open"); !strings.Contains(err.Error(), "open: other") {
		t.Error(err)
	}
}
