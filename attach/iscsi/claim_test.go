package iscsi

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
)

func TestOpenDisk(t *testing.T) {
	d := New(Config{Helper: helper.New(helpertest.Shim(t))})
	null := disk{name: "null", devnum: unix.Mkdev(1, 3)}
	f, err := d.openDisk(t.Context(), null, unix.O_EXCL)
	must(t, err)
	must(t, f.Close())
	null.devnum++
	if _, err := d.openDisk(t.Context(), null, 0); !errors.Is(err, unix.ENXIO) {
		t.Errorf("another device of the name: %v", err)
	}
}

// TestDiskThatCannotBeOpened: however often it is tried, one process waits, and none of ours.
func TestDiskThatCannotBeOpened(t *testing.T) {
	h := helpertest.NewHang(t)
	d := New(Config{Helper: helper.New(helpertest.Shim(t))})
	k := disk{name: ".." + h.Path}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { <-h.Asked; cancel() }()
	var held *helper.Stuck
	if _, err := d.openDisk(ctx, k, 0); !errors.As(err, &held) {
		t.Fatal(err)
	}
	for range 3 {
		if f, err := d.tryClaim(t.Context(), k); f != nil || err != nil {
			t.Errorf("%v, %v", f, err)
		}
		if _, err := d.openDisk(t.Context(), k, 0); !errors.Is(err, errHeldUp) {
			t.Error(err)
		}
	}
	if left := d.cfg.Helper.Left(); len(left) != 1 || left[0].PID != held.PID {
		t.Errorf("left are %+v", left)
	}
	h.Answer()
	eventually(t, "the helper ends", func() bool { return len(d.cfg.Helper.Left()) == 0 })
}
