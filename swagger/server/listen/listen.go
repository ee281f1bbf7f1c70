// Package listen opens the places where the daemon is reached: a unix socket for root, http on loopback, https.
//
// It owns who may connect to a place: modes, certificates, addresses. It never speaks HTTP.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/server/systemd"
)

// The schemes.
const (
	Unix  = "unix"
	HTTP  = "http"
	HTTPS = "https"
)

// What holds when nobody says otherwise. The socket and the port are the forerunner's.
const (
	DefaultSocket  = "/var/run/imageapi.sock"
	DefaultHost    = "127.0.0.1"
	DefaultPort    = 8080
	DefaultTLSPort = 8443
)

// Config says where to listen. The zero value is the unix socket alone.
type Config struct {
	Schemes        []string // unix, http, https; none is unix
	SocketPath     string   // none is DefaultSocket
	Host           string   // of http: an address or a name; none is DefaultHost
	TLSHost        string   // of https; none is Host
	Port           *int     // of http; nil is DefaultPort, 0 any free one
	TLSPort        *int     // of https; nil is DefaultTLSPort, 0 any free one
	TLSCertificate string   // PEM file with the certificate and its chain
	TLSKey         string   // PEM file
	TLSCA          string   // PEM file; when set, a client must show a certificate of this CA
	InsecureHTTP   bool     // http on other addresses than loopback too
}

// Listener is an open place.
type Listener struct {
	net.Listener
	Scheme string
	Host   string // as configured; "" for a unix socket
}

// URL is how a user names it.
func (l *Listener) URL() string {
	if l.Scheme == Unix {
		return "unix://" + l.Addr().String()
	}
	return l.Scheme + "://" + l.Addr().String()
}

// Open opens all places, or none. Sockets that systemd passed take the place of those configured for the same scheme.
func Open(ctx context.Context, c Config) (_ []*Listener, err error) {
	var open []*Listener
	defer func() {
		if err != nil {
			Close(open)
		}
	}()
	if open, err = c.activated(); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, l := range open {
		have[l.Scheme] = true
	}
	if len(c.Schemes) == 0 && len(open) == 0 {
		c.Schemes = []string{Unix}
	}
	for _, scheme := range c.Schemes {
		if have[scheme] {
			continue
		}
		have[scheme] = true
		l, err := c.open(ctx, scheme)
		if err != nil {
			return nil, err
		}
		open = append(open, l)
	}
	return open, nil
}

// Close closes all.
func Close(listeners []*Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (c Config) open(ctx context.Context, scheme string) (*Listener, error) {
	switch scheme {
	case Unix:
		l, err := listenUnix(ctx, or(c.SocketPath, DefaultSocket))
		if err != nil {
			return nil, err
		}
		return &Listener{Listener: l, Scheme: Unix}, nil
	case HTTP:
		return c.openTCP(ctx, HTTP, port(c.Port, DefaultPort))
	case HTTPS:
		return c.openTCP(ctx, HTTPS, port(c.TLSPort, DefaultTLSPort))
	}
	return nil, fault.New(fault.Invalid, "unknown scheme %q: known are unix, http and https", scheme)
}

func (c Config) openTCP(ctx context.Context, scheme string, port int) (*Listener, error) {
	host := or(c.Host, DefaultHost)
	if scheme == HTTPS {
		host = or(c.TLSHost, host)
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	var secure *tls.Config
	if scheme == HTTPS {
		var err error
		if secure, err = c.tls(); err != nil {
			return nil, err
		}
	} else if err := c.mayBePlain(ctx, host); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w", scheme, address, err)
	}
	return c.guard(l, scheme, host, secure)
}

// guard looks at what was opened, not at what was asked for: a name may have come to mean another address.
func (c Config) guard(l net.Listener, scheme, host string, secure *tls.Config) (*Listener, error) {
	if scheme == HTTPS {
		return &Listener{Listener: tls.NewListener(l, secure), Scheme: HTTPS, Host: host}, nil
	}
	if a, ok := l.Addr().(*net.TCPAddr); !c.InsecureHTTP && (!ok || !a.IP.IsLoopback()) {
		l.Close()
		return nil, notPlain(l.Addr().String())
	}
	return &Listener{Listener: l, Scheme: HTTP, Host: host}, nil
}

func (c Config) mayBePlain(ctx context.Context, host string) error {
	if c.InsecureHTTP {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("listen for http on %s: %w", host, err)
	}
	for _, a := range addrs {
		if !a.Unmap().IsLoopback() {
			return notPlain(host)
		}
	}
	return nil
}

func notPlain(where string) error {
	return fault.Hintf(fault.New(fault.Invalid, "%s is not a loopback address: plain http there gives the node to the network", where),
		"use the scheme https, listen on 127.0.0.1, or allow it with the setting insecure-http")
}

// activated takes over systemd's sockets. A TCP socket whose FileDescriptorName is https is that; others are plain.
func (c Config) activated() ([]*Listener, error) {
	sockets, err := systemd.Sockets()
	if err != nil {
		return nil, err
	}
	var out []*Listener
	for i, s := range sockets {
		l, err := c.adopt(s)
		if err != nil {
			Close(out)
			for _, rest := range sockets[i:] {
				rest.Listener.Close()
			}
			return nil, fmt.Errorf("socket %s of systemd: %w", s.Name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func (c Config) adopt(s systemd.Socket) (*Listener, error) {
	switch a := s.Listener.Addr().(type) {
	case *net.UnixAddr:
		return &Listener{Listener: s.Listener, Scheme: Unix}, nil
	case *net.TCPAddr:
		if s.Name != HTTPS {
			return c.guard(s.Listener, HTTP, a.IP.String(), nil)
		}
		secure, err := c.tls()
		if err != nil {
			return nil, err
		}
		return c.guard(s.Listener, HTTPS, a.IP.String(), secure)
	}
	return nil, fault.New(fault.Invalid, "it is neither a unix nor a TCP socket")
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func port(p *int, fallback int) int {
	if p == nil {
		return fallback
	}
	return *p
}
