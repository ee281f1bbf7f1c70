package rbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// reachWait bounds the look at the monitors, all at once.
const reachWait = time.Second

// What a monitor says first, in the first and the second version of the protocol (msgr, msgr2).
const (
	bannerV1 = "ceph v027"
	bannerV2 = "ceph v2\n"
)

// reach looks at each monitor, to say why the kernel could not use it. It only listens.
func reach(ctx context.Context, addrs []netip.AddrPort, v2 bool) []string {
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	all := make([]string, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() { all[i] = fmt.Sprintf("%s %s", a, meet(ctx, a, v2)) })
	}
	wg.Wait()
	return all
}

func meet(ctx context.Context, a netip.AddrPort, v2 bool) string {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.String())
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refuses connections"
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return "cannot be reached"
	case err != nil:
		return "does not answer"
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetReadDeadline(deadline)
	}
	said := make([]byte, len(bannerV1))
	n, _ := c.Read(said)
	said = said[:n]
	first, second := bytes.HasPrefix(said, []byte(bannerV1)), bytes.HasPrefix(said, []byte(bannerV2))
	switch {
	case first && v2:
		return "speaks version 1 of the protocol only (ms_mode legacy)"
	case second && !v2:
		return "speaks version 2 of the protocol only (ms_mode crc, secure …)"
	case first || second:
		return "greets, but gives no session"
	case n > 0:
		return "is no monitor of Ceph"
	}
	return "takes the connection, but says nothing"
}
