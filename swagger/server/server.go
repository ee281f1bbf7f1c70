// Package server is the HTTP edge of windlass: it serves swagger.yaml over a unix socket, http and https.
//
// It owns listeners, requests and answers: it holds requests to the contract, turns faults into statuses, and streams logs, events and
// exec. It never touches the node; all that it does, it asks of a Chain.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server/contract"
	"github.com/windlass-hpc/windlass/swagger/server/listen"
	"github.com/windlass-hpc/windlass/swagger/spec"
	"github.com/windlass-hpc/windlass/swagger/ui"
)

// Server serves one Chain.
type Server struct {
	config   Config
	chain    Chain
	log      *logrus.Logger
	contract *contract.Contract
	docs     *ui.UI
	specs    map[string][]byte // the contract, by the scheme it is asked over
	metrics  *Metrics
	budgets  map[class]*budget
	bodies   atomic.Int64 // bytes of all bodies that are held now
	handler  http.Handler
	http     *http.Server
	served   []servedRoute

	listeners []*listen.Listener
	stopping  atomic.Bool
	streams   context.Context // ends when streams shall end
	endAll    context.CancelFunc
	taken     taken // connections that streams have taken over
}

// New makes a server. It listens nowhere yet.
func New(config Config, chain Chain, log *logrus.Logger) (*Server, error) {
	config.fill()
	c, err := contract.New(spec.JSON())
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, chain: chain, log: log, contract: c, metrics: config.Metrics}
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	s.metrics.objects.set(chain.Counts)
	left := func() int { return len(chain.Info().LeftBehind) }
	s.metrics.left.Store(&left)
	s.metrics.chunkfs.set(func() []*models.Mount {
		mounts, _ := chain.Mounts(nil, string(models.MountKindChunkfs)) // it fails for an unknown id only
		return mounts
	})
	if s.docs, err = ui.New(c.BasePath+"/docs", "/swagger.json"); err != nil {
		return nil, err
	}
	if s.specs, err = specs(); err != nil {
		return nil, err
	}
	s.budgets = map[class]*budget{
		read:   newBudget(config.MaxReads, config.QueueTimeout),
		change: newBudget(config.MaxChanges, config.QueueTimeout),
		lower:  newBudget(config.MaxChanges, config.QueueTimeout),
		stream: newBudget(config.MaxStreams, config.QueueTimeout),
	}
	s.streams, s.endAll = context.WithCancel(context.Background())
	if s.handler, err = s.routes(); err != nil {
		return nil, err
	}
	s.http = s.newHTTP()
	return s, nil
}

func (s *Server) newHTTP() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // HTTP/2 cannot give a connection away, which exec needs
	return &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.config.HeaderTimeout,
		IdleTimeout:       s.config.IdleTimeout,
		MaxHeaderBytes:    s.config.MaxHeader,
		Protocols:         &protocols,
		ErrorLog:          quiet(s.log),
		BaseContext:       func(l net.Listener) context.Context { return withListener(context.Background(), l) },
		ConnContext:       withPeer,
	}
}

// Handler is the whole of it without a listener, for tests. Requests through it count as root's own.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen opens the configured places. Clients may connect from now on; they are answered once Serve runs.
func (s *Server) Listen(ctx context.Context) error {
	open, err := listen.Open(ctx, s.config.Listen)
	if err != nil {
		return err
	}
	s.listeners = open
	return nil
}

// Listeners are the open places.
func (s *Server) Listeners() []*listen.Listener { return s.listeners }

// Serve answers on all listeners until Shutdown, then it returns nil. When one of them fails it returns why, and the others go on.
func (s *Server) Serve() error {
	if len(s.listeners) == 0 {
		return fault.New(fault.Internal, "serve: nothing is listened on")
	}
	ended := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		s.log.WithField("address", l.URL()).Info("serving")
		go func() {
			err := s.http.Serve(l)
			if !errors.Is(err, http.ErrServerClosed) {
				err = fmt.Errorf("serve %s: %w", l.URL(), err)
			}
			ended <- err
		}()
	}
	for range s.listeners {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
	}
	return nil
}

// Shutdown closes the listeners, ends every stream and waits for the other requests until ctx ends; then it cuts them off, which ends
// their contexts. Containers are not touched.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopping.Store(true)
	s.endAll()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	s.taken.wait(ctx)
	listen.Close(s.listeners) // those that were never served; the others are closed already
	if err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// taken counts the connections that are no longer net/http's.
type taken struct{ wg sync.WaitGroup }

func (t *taken) add() (done func()) {
	t.wg.Add(1)
	return t.wg.Done
}

func (t *taken) wait(ctx context.Context) {
	all := make(chan struct{})
	go func() { t.wg.Wait(); close(all) }()
	select {
	case <-all:
	case <-ctx.Done():
	}
}
