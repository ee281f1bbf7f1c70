package web

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// script answers iPXE with what a node is to boot.
func (s *Server) script(w http.ResponseWriter, r *http.Request) error {
	hw, err := net.ParseMAC(r.URL.Query().Get("mac"))
	if err != nil || len(hw) != 6 {
		return fault.New(fault.Invalid, "mac: %.40q is no Ethernet address", r.URL.Query().Get("mac"))
	}
	mac, from := hw.String(), remote(r)
	if err := s.checkSource(mac, from); err != nil {
		return err
	}
	text, err := s.o.Scripts.IPXE(mac, s.base(r))
	if err != nil {
		return err
	}
	seen := nodes.Seen{MAC: mac, Source: nodes.HTTP, Stage: bootstage.Script, Message: "was given its script", Bytes: int64(len(text))}
	if !from.IsLoopback() {
		if s.o.Site.HTTP.CheckSource {
			seen.Addr = from
		}
		// with the DHCP of another server this is the first that is seen of a node that was switched on
		seen.Fresh = !s.o.Nodes.Stage(mac).Before(bootstage.Init)
	}
	_, name, _ := s.o.Nodes.See(seen)
	s.o.Log.WithFields(map[string]any{"mac": mac, "node": name, "from": from.String()}).Info("HTTP: script")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, text) // whoever asked may have gone
	return nil
}

// base is the URL by which the node that asks reaches this server.
func (s *Server) base(r *http.Request) string {
	if u := s.o.Site.HTTP.URL; u != "" {
		return u
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return "http://" + a.String()
	}
	return "http://" + s.o.Site.HTTP.Listen
}

// checkSource refuses who speaks for a node from an address that is another node's, or that cannot be the node's: when it has one from us, the
// others that it may have lie in our subnets. This machine may ask for any.
func (s *Server) checkSource(mac string, from netip.Addr) error {
	if !s.o.Site.HTTP.CheckSource || from.IsLoopback() {
		return nil
	}
	if owner, ok := s.o.Owner(from); ok && owner != mac {
		return fault.New(fault.Forbidden, "%s is the address of another node than %s; if this is right, set http.check_source: false", from, mac)
	}
	own, ok := s.o.Address(mac)
	if !ok || own == from {
		return nil
	}
	if _, ok := s.o.Site.SubnetOf(from); !ok {
		return fault.New(fault.Forbidden,
			"%s has the address %s, and asks from %s, which is in none of `subnets`: add the network there, or set http.check_source: false", mac, own, from)
	}
	return nil
}

// report takes what a node says of itself.
func (s *Server) report(w http.ResponseWriter, r *http.Request) error {
	from := remote(r)
	if !s.rates.allow(from) {
		return fault.New(fault.Throttled, "too many reports")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bootstage.MaxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return fault.New(fault.TooLarge, "a report has at most %d bytes", bootstage.MaxBody)
		}
		return fault.New(fault.Invalid, "the report did not come whole")
	}
	rep, err := bootstage.ParseReport(body)
	if err != nil {
		return fault.New(fault.Invalid, "%w", err)
	}
	if err := s.checkSource(rep.MAC, from); err != nil {
		return err
	}
	if _, ok := s.o.Scripts.Node(rep.MAC); !ok {
		return fault.New(fault.NotFound, "%s is not a listed node", rep.MAC)
	}
	_, name, _ := s.o.Nodes.See(nodes.Seen{MAC: rep.MAC, Source: nodes.Report, Stage: rep.Stage, State: rep.State, At: rep.At(s.o.Now()),
		Message: rep.Message, Error: rep.Error})
	if err := s.o.Nodes.Flush(); err != nil { // the node does not say it twice
		s.quiet.Do("keep", func(more int) { s.o.Log.WithError(err).WithField("more", more).Warn("a report is not written down") })
	}
	s.o.Meter.Reported(rep.Stage, rep.Error != "")
	entry := s.o.Log.WithFields(map[string]any{"mac": rep.MAC, "node": name, "stage": string(rep.Stage), "state": string(rep.State), "message": rep.Message})
	if rep.Error != "" {
		entry.WithField("error", rep.Error).Warn("a node reports an error")
	} else {
		entry.Info("a node reports")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// newErrorLog takes what net/http says.
func newErrorLog(w io.Writer) *log.Logger { return log.New(w, "", 0) }
