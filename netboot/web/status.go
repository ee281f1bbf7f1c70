package web

import (
	"net"
	"net/http"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// status is for who may look: this machine, and those that the configuration names; everybody when it names none.
func (s *Server) status(fn func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		from := remote(r)
		allowed := len(s.o.Site.HTTP.StatusFrom) == 0 || from.IsLoopback()
		for _, p := range s.o.Site.HTTP.StatusFrom {
			allowed = allowed || p.Contains(from)
		}
		if !allowed {
			return fault.New(fault.Forbidden, "%s may not look (http.status_from)", from)
		}
		return fn(w, r)
	}
}

// healthz is for a watchdog.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	if s.o.Health != nil {
		if err := s.o.Health(); err != nil {
			return fault.New(fault.Unavailable, "%w", err)
		}
	}
	return writeJSON(w, map[string]bool{"ok": true})
}

// nodes shows how far every node has come, as JSON, or as a table for people.
func (s *Server) nodes(w http.ResponseWriter, r *http.Request) error {
	all := s.o.Nodes.All()
	format := r.URL.Query().Get("format")
	if format == "" && strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		format = "table"
	}
	switch format {
	case "", "json":
		return writeJSON(w, all)
	case "table":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = nodes.WriteTable(w, all, s.o.Now()) // whoever asked may have gone
		return nil
	}
	return fault.New(fault.Invalid, "format: %.20q is neither json nor table", format)
}

// events shows what happened lately, of all nodes or of one.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	mac := r.URL.Query().Get("mac")
	if mac != "" {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return fault.New(fault.Invalid, "mac: %.40q is no address", mac)
		}
		mac = hw.String()
	}
	return writeJSON(w, s.o.Nodes.Events(mac))
}
