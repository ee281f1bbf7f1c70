package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	probes   = 400                    // GETs measured in each of the two cases
	between  = 10 * time.Millisecond  // two of them
	thinking = time.Second            // of a client of the load, as Kraken does
	settling = 500 * time.Millisecond // until all clients have come
)

// load measures GET /container alone, and while many clients ask for the same every second and a mount hangs on a server that never
// answers. The compared figures are 99th percentiles.
func load(s setting) ([]row, error) {
	o, err := s.ours.post("/container", wire{"name": "bench-load", "command": "/bin/true", "mount": bind(s.rootfs)})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.ours.remove("/container", o.ID) }()
	idle, err := s.probe()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer silent.Close()
	var all sync.WaitGroup
	all.Go(func() { hang(ctx, s, silent.Addr().String()) })
	failures := make(chan error, s.clients)
	for i := range s.clients {
		all.Go(func() { failures <- s.poll(ctx, time.Duration(i)*thinking/time.Duration(s.clients)) })
	}
	time.Sleep(thinking + settling)
	busy, err := s.probe()
	cancel()
	all.Wait()
	close(failures)
	for ferr := range failures {
		if err == nil {
			err = ferr
		}
	}
	what := fmt.Sprintf("GET /container, 99th percentile, %d clients asking every second and a mount that hangs", s.clients)
	return []row{{what, "idle", single(percentile(busy, 99)), single(percentile(idle, 99)), "≤ 2", probes}}, err
}

// single is a figure without a spread.
func single(d time.Duration) spread { return spread{d, d, d} }

// probe takes the time of single requests.
func (s setting) probe() ([]time.Duration, error) {
	samples := make([]time.Duration, 0, probes)
	for range probes {
		began := time.Now()
		if err := s.ours.call(http.MethodGet, "/container", nil, nil); err != nil {
			return nil, err
		}
		samples = append(samples, time.Since(began))
		time.Sleep(between)
	}
	return samples, nil
}

// poll asks every second over a connection of its own, until ctx ends.
func (s setting) poll(ctx context.Context, offset time.Duration) error {
	a := &api{&http.Client{Transport: s.ours.client.Transport.(*http.Transport).Clone(), Timeout: s.ours.client.Timeout}}
	defer a.client.CloseIdleConnections()
	wait := time.NewTimer(offset)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		if err := a.call(http.MethodGet, "/container", nil, nil); err != nil {
			return fmt.Errorf("a client of the load: %w", err)
		}
		wait.Reset(thinking)
	}
}

// hang keeps a request for a mount going that cannot end: its server takes the connection and says nothing.
func hang(ctx context.Context, s setting, address string) {
	a := &api{&http.Client{Transport: s.ours.client.Transport.(*http.Transport).Clone()}}
	defer a.client.CloseIdleConnections()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = a.post("/mount", wire{"kind": "uri", "uri": wire{"uri": "http://" + address + "/image"}})
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
