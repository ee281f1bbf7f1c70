package iscsi

import (
	"context"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// TestOpeningHoldsUpNobodyElse: the kernel may load a module when the socket is opened.
func TestOpeningHoldsUpNobodyElse(t *testing.T) {
	d, _, f := onFake(t)
	loading, loaded, opens := make(chan struct{}), make(chan struct{}), 0
	d.connect = func() (*netlink.Kernel, error) {
		opens++
		close(loading)
		<-loaded
		return netlink.Over(f, 1<<30, 1), nil
	}
	go func() { _, _ = d.open(t.Context()) }()
	<-loading
	seen := make(chan struct{})
	go func() {
		d.Observe(1, &models.Attach{Kind: models.AttachKindIscsi, Iscsi: valid()})
		close(seen)
	}()
	select {
	case <-seen:
	case <-time.After(5 * time.Second):
		t.Error("Observe waits")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := d.open(ctx); err == nil {
		t.Error("another one has a kernel that nobody has")
	}
	close(loaded)
	k, err := d.open(t.Context())
	must(t, err)
	again, err := d.open(t.Context())
	must(t, err)
	if k != again || opens != 1 {
		t.Errorf("opened %d times", opens)
	}
}
