package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/server/listen"
)

type listenerKey struct{}

type peerKey struct{}

// connected is what is known of a connection to a unix socket.
type connected struct {
	listen.Peer
	err error
}

func withListener(ctx context.Context, l net.Listener) context.Context {
	if known, ok := l.(*listen.Listener); ok {
		return context.WithValue(ctx, listenerKey{}, known)
	}
	return ctx
}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	peer, ok, err := listen.PeerOf(conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, connected{peer, err})
}

func listenerOf(r *http.Request) *listen.Listener {
	l, _ := r.Context().Value(listenerKey{}).(*listen.Listener)
	return l
}

// admit decides whether a connection may ask at all.
func admit(r *http.Request) error {
	l := listenerOf(r)
	if l == nil { // a test's own call of the handler
		return nil
	}
	if l.Scheme == listen.Unix {
		return admitPeer(r)
	}
	if err := sameOrigin(r, l); err != nil {
		return err
	}
	if l.Scheme == listen.HTTP && onLoopback(r) && !ownName(r.Host, l.Host) {
		return fault.Hintf(fault.New(fault.Forbidden, "the host %q is not a name of this server", printable(r.Host)),
			"use its address or localhost; a page elsewhere could otherwise reach it under a name of its own")
	}
	return nil
}

// admitPeer lets root and the daemon's own user in. The mode of the socket says the same; a socket of systemd's may have another.
func admitPeer(r *http.Request) error {
	peer, ok := r.Context().Value(peerKey{}).(connected)
	if !ok {
		return fault.New(fault.Forbidden, "it is not known who is at the other end of the socket")
	}
	if peer.err != nil {
		return fault.New(fault.Forbidden, "it is not known who is at the other end of the socket: %w", peer.err)
	}
	if peer.UID != 0 && int(peer.UID) != os.Geteuid() {
		return fault.Hintf(fault.New(fault.Forbidden, "user %d may not use this socket", peer.UID), "be root")
	}
	return nil
}

// sameOrigin refuses what a page of another site sends through a browser.
func sameOrigin(r *http.Request, l *listen.Listener) error {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	if err == nil && u.Scheme == l.Scheme && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return fault.New(fault.Forbidden, "a page of %s may not use this server", printable(origin))
}

// onLoopback reports whether the client is on this node, as a browser that was lured to us would be.
func onLoopback(r *http.Request) bool {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || a.IP.IsLoopback()
}

// ownName reports whether the header Host names this server: an address, localhost or the configured name. Any other name may be one
// that an attacker's name server points here.
func ownName(host, configured string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || configured != "" && strings.EqualFold(name, configured)
}

// peerName names the client in the log.
func peerName(r *http.Request) string {
	if peer, ok := r.Context().Value(peerKey{}).(connected); ok {
		return fmt.Sprintf("uid=%d pid=%d", peer.UID, peer.PID)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return r.RemoteAddr + " " + printable(r.TLS.PeerCertificates[0].Subject.String())
	}
	return r.RemoteAddr
}
