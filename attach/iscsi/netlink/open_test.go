package netlink_test

import (
	"os"
	"testing"

	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestOpen holds for every kernel: one that has iSCSI over TCP can be spoken with, of another it is said what to do.
func TestOpen(t *testing.T) {
	k, err := netlink.Open()
	if _, missing := os.Stat("/sys/class/iscsi_transport/tcp"); missing == nil {
		if err != nil {
			t.Fatal(err)
		}
		k.Close()
		return
	}
	if !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}
