package iscsi

import (
	"context"
	"fmt"

	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
)

// open gives the kernel's transport. The kernel may load a module for it: when ctx ends first, that goes on, for the next who asks. Nobody
// who wants d.mu waits for it.
func (d *Driver) open(ctx context.Context) (*netlink.Kernel, error) {
	if k, err := d.connected(nil); k != nil || err != nil {
		return k, err
	}
	type outcome struct {
		k   *netlink.Kernel
		err error
	}
	done := make(chan outcome, 1)
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("open the iSCSI netlink socket: %w", ctx.Err())
	}
	go func() {
		k, err := d.dial()
		<-d.turn
		done <- outcome{k, err}
	}()
	select {
	case o := <-done:
		return o.k, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("open the iSCSI netlink socket: %w", ctx.Err())
	}
}

// dial connects, unless somebody has done so meanwhile.
func (d *Driver) dial() (*netlink.Kernel, error) {
	if k, err := d.connected(nil); k != nil || err != nil {
		return k, err
	}
	k, err := d.connect()
	if err != nil {
		return nil, err
	}
	if _, err := d.connected(k); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// connected gives the transport that there is, fresh when that is not nil. It fails when the driver has been closed.
func (d *Driver) connected(fresh *netlink.Kernel) (*netlink.Kernel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.running.Err(); err != nil {
		return nil, fmt.Errorf("the iSCSI driver has been closed: %w", err)
	}
	if fresh != nil {
		d.kernel = fresh
	}
	return d.kernel, nil
}
