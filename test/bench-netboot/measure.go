package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/test/netload"
)

const ours, dnsmasq, nginx = "windlass", "dnsmasq", "nginx"

func (b *bench) rows() []row {
	two := []string{ours, dnsmasq}
	rows := []row{
		{what: fmt.Sprintf("DHCP, %d new nodes, %d at once: DISCOVER to ACK, lease on disk", b.o.nodes, b.o.at), unit: "nodes/s", who: two, measure: b.dhcp(1)},
		{what: "the same nodes again", unit: "nodes/s", who: two, measure: b.dhcp(2)},
	}
	for _, c := range []struct{ mib, clients int }{{1, 1}, {1, 32}, {16, 8}} {
		what := fmt.Sprintf("TFTP, %d MiB to %d at once, blocks of 1468", c.mib, c.clients)
		rows = append(rows, row{what: what, unit: "MB/s", who: two, measure: b.tftp(c.mib, c.clients)})
	}
	if _, err := exec.LookPath("nginx"); err == nil {
		rows = append(rows, row{what: "HTTP, 64 MiB to 8 at once", unit: "MB/s", who: []string{ours, nginx}, measure: b.http(64, 8)})
	}
	for i := range rows {
		rows[i].got = map[string][]float64{}
	}
	return rows
}

// line is a line of the table: medians, and in brackets between what the middle half lies.
func (r row) line() string {
	cell := func(who string) (string, float64) {
		all := slices.Sorted(slices.Values(r.got[who]))
		n := len(all)
		return fmt.Sprintf("%.0f %s (%.0f–%.0f)", all[n/2], r.unit, all[n/4], all[n-1-n/4]), all[n/2]
	}
	us, a := cell(r.who[0])
	them, b := cell(r.who[1])
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f | %d |", r.what, us, r.who[1], them, a/b, len(r.got[r.who[0]]))
}

// each runs fn for n things, some at once, and gives how many of them were done in a second.
func each(n, at int, fn func(i int) error) (float64, error) {
	var next atomic.Int64
	errs := make([]error, at)
	var all sync.WaitGroup
	began := time.Now()
	for k := range at {
		all.Go(func() {
			for errs[k] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[k] = fn(i)
			}
		})
	}
	all.Wait()
	return float64(n) / time.Since(began).Seconds(), errors.Join(errs...)
}

// spread is the i-th node's MAC. They are not in a row: dnsmasq offers one address to many of those at once, and then refuses it to all but one.
func spread(i int) net.HardwareAddr {
	h := fnv.New64a()
	fmt.Fprint(h, i) // never fails
	sum := h.Sum(nil)
	return append(net.HardwareAddr{2}, sum[3:]...)
}

// dhcp has nodes ask for their addresses as often as times says, and measures the last time.
func (b *bench) dhcp(times int) func(context.Context, string) (float64, error) {
	waits := []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second}
	return func(ctx context.Context, who string) (rate float64, err error) {
		stop, err := b.start(ctx, who)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		for range times {
			rate, err = each(b.o.nodes, b.o.at, func(i int) error {
				_, _, err := b.ether.Obtain(ctx, spread(i), netload.Firmware, waits)
				return err
			})
			if err != nil {
				return 0, err
			}
		}
		return rate, nil
	}
}

func (b *bench) tftp(mib, clients int) func(context.Context, string) (float64, error) {
	o := netload.TFTP{Server: &net.UDPAddr{IP: net.ParseIP(netload.ServerAddr), Port: 69}, Block: 1468, Retries: 5, Wait: time.Second}
	return func(ctx context.Context, who string) (rate float64, err error) {
		stop, err := b.start(ctx, who)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		rate, err = each(clients, clients, func(i int) error { // each from an address of its own
			n, _, err := o.Get(netip.AddrFrom4([4]byte{10, 1, 64, byte(1 + i)}), fileOf(mib), io.Discard)
			if err == nil && n != int64(mib)<<20 {
				err = fmt.Errorf("%d bytes came", n)
			}
			return err
		})
		return rate * float64(mib) * 1.048576, err
	}
}

func (b *bench) http(mib, clients int) func(context.Context, string) (float64, error) {
	return func(ctx context.Context, who string) (rate float64, err error) {
		stop, err := b.start(ctx, who)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}}
		defer c.CloseIdleConnections()
		rate, err = each(4*clients, clients, func(int) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Join([]string{"http://" + netload.ServerAddr + ":8080/files", fileOf(mib)}, "/"), nil)
			if err != nil {
				return err
			}
			resp, err := c.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if err == nil && n != int64(mib)<<20 {
				err = fmt.Errorf("%s, %d bytes", resp.Status, n)
			}
			return err
		})
		return rate * float64(mib) * 1.048576, err
	}
}
