// Package web is the boot server's HTTP side: files with ranges, scripts for iPXE, reports of nodes, and how far they have come.
//
// It gives only what is published. It takes nothing but reports, which are small, judged, and counted against who sends them.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/quiet"
	"github.com/windlass-hpc/windlass/netboot/script"
)

const (
	maxConnections = 4096
	maxHeader      = 16 << 10
	headerTime     = 10 * time.Second
	idleTime       = time.Minute
	// slack is how long an answer, or a piece of one, may take to be read.
	slack = time.Minute
	// grace is how long requests under way have when the server ends.
	grace = 3 * time.Second
)

// Meter counts requests.
type Meter interface {
	Request(route, method string, status int, bytes int64)
	Reported(stage bootstage.Stage, failed bool)
}

// Options are what a Server works with.
type Options struct {
	Site    *config.Config
	Scripts *script.Set
	Nodes   *nodes.Registry
	// Address gives the address that a node has from us, Owner the node that has an address; false when addresses are not ours to give.
	Address func(mac string) (netip.Addr, bool)
	Owner   func(netip.Addr) (mac string, ok bool)
	// Files, Images and Programs are what is published below the paths of package script.
	Files, Images, Programs *publish.Tree
	Metrics                 http.Handler
	Health                  func() error // why nodes cannot be served as they should be; may be nil
	Log                     logrus.FieldLogger
	Meter                   Meter
	Now                     func() time.Time // nil is time.Now
}

// Server is the web server.
type Server struct {
	o     Options
	quiet *quiet.Log
	rates *rates
	l     *limited
}

// New makes a server that listens nowhere yet.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o: o, quiet: quiet.New(o.Now), rates: newRates(o.Now)}
}

// Listen opens the socket.
func (s *Server) Listen(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp"+config.Family(s.o.Site.HTTP.Listen), s.o.Site.HTTP.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	s.l = newLimited(l.(*net.TCPListener), maxConnections)
	return nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: slack, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ConnState: s.l.state}
	quietly := s.o.Log.WithField("server", "http")
	writer := quietly.WriterLevel(logrus.DebugLevel) // whoever connects can make it say things
	defer writer.Close()
	server.ErrorLog = newErrorLog(writer)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Handler is all routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern, name string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.call(w, r, name, fn) })
	}
	route("GET "+script.IPXEPath, "script", s.script)
	route("GET "+script.FilesPath, "files", s.files(s.o.Files, script.FilesPath))
	route("GET "+script.ImagesPath, "images", s.files(s.o.Images, script.ImagesPath))
	route("GET "+script.BinPath, "programs", s.files(s.o.Programs, script.BinPath))
	route("POST "+script.ReportPath, "report", s.report)
	route("GET /nodes", "nodes", s.status(s.nodes))
	route("GET /events", "events", s.status(s.events))
	route("GET /healthz", "healthz", s.healthz)
	if s.o.Metrics != nil {
		route("GET /metrics", "metrics", s.status(func(w http.ResponseWriter, r *http.Request) error {
			s.o.Metrics.ServeHTTP(w, r)
			return nil
		}))
	}
	return mux
}

// call runs one route, answers its error, and counts.
func (s *Server) call(w http.ResponseWriter, r *http.Request, route string, fn func(http.ResponseWriter, *http.Request) error) {
	c := &counter{ResponseWriter: w, now: s.o.Now}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	err := http.NewResponseController(w).SetWriteDeadline(s.o.Now().Add(slack))
	if err != nil && !errors.Is(err, http.ErrNotSupported) { // a test's recorder has none
		return
	}
	if err := fn(c, r); err != nil {
		s.fail(c, r, route, err)
	}
	s.o.Meter.Request(route, r.Method, c.code(), c.bytes)
}

// fail answers an error as JSON, and tells of it.
func (s *Server) fail(c *counter, r *http.Request, route string, err error) {
	from := remote(r)
	if c.status == 0 {
		code := statusOf(fault.KindOf(err))
		c.Header().Set("Content-Type", "application/json")
		if code == http.StatusServiceUnavailable {
			c.Header().Set("Retry-After", "5")
		}
		c.WriteHeader(code)
		_ = json.NewEncoder(c).Encode(map[string]string{"kind": string(fault.KindOf(err)), "error": err.Error()}) // who has gone hears nothing
	}
	s.quiet.Do(route+" "+from.String(), func(more int) {
		s.o.Log.WithFields(map[string]any{"route": route, "from": from.String(), "path": fmt.Sprintf("%.200q", r.URL.Path), "more": more}).
			WithError(err).Warn("HTTP: refused")
	})
}

func statusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Throttled:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // whoever asked may have gone
	return nil
}

// remote is who asks.
func remote(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}
