package netboot

import (
	"context"
	"fmt"
	"sync"
	"time"
)

func (s *server) ready() error {
	url := ""
	if s.web != nil {
		url = "http://" + s.web.Addr().String()
	}
	for _, i := range s.o.Site.Interfaces {
		s.o.Log.WithFields(map[string]any{"wire": i.Name, "mode": string(i.Mode)}).Info("serving")
	}
	fields := map[string]any{"http": url, "nodes": len(s.o.Site.Nodes), "leases": len(s.leases.All())}
	if s.tftp != nil {
		fields["tftp"] = s.tftp.Addr().String()
	}
	s.o.Log.WithFields(fields).Info("netboot is ready")
	if s.o.Ready == nil {
		return nil
	}
	return s.o.Ready(url)
}

// run runs all servers until ctx ends or one of them fails.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 2)
	var all sync.WaitGroup
	serve := func(what string, fn func(context.Context) error) {
		all.Go(func() {
			if err := fn(ctx); err != nil {
				failed <- fmt.Errorf("serve %s: %w", what, err)
			}
		})
	}
	for _, w := range s.wires {
		all.Go(func() { w.Serve(ctx) })
	}
	for _, r := range s.ras {
		all.Go(func() { r.Serve(ctx) })
	}
	if s.tftp != nil {
		serve("TFTP", s.tftp.Serve)
	}
	if s.web != nil {
		serve("HTTP", s.web.Serve)
	}
	all.Go(func() { s.save(ctx) })
	var err error
	select {
	case <-ctx.Done():
		s.o.Log.Info("stopping")
	case err = <-failed:
	}
	cancel()
	all.Wait()
	return err
}

// save writes down now and then how far the nodes have come, and leases that could not be written before.
func (s *server) save(ctx context.Context) {
	tick := time.NewTicker(saveTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.nodes.Save(ctx); err != nil {
				s.o.Log.WithError(err).Warn("how far the nodes have come could not be written down")
			}
			_ = s.leases.Mend() // /healthz tells of it, and the node whose lease it was has been told in the log
		}
	}
}
