package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/swagger/client"
)

// dialTimeout bounds reaching the daemon; what it does then may take longer.
const dialTimeout = 5 * time.Second

// connection is where the daemon is, as the flags say.
type connection struct{ socket, url, ca, cert, key string }

// api is the daemon as a client sees it.
type api struct {
	*client.Windlass
	http  *http.Client
	base  string // such as http://host:8080/imageapi/v1
	addr  string // for messages
	local bool   // the daemon is on this node
}

// connect finds the daemon: flags are stronger than the environment, a socket and a URL by the same source exclude each other. Nothing
// is dialled yet.
func (a *app) connect() (*api, error) {
	c := a.conn
	if c.socket != "" && c.url != "" {
		return nil, usageError{errors.New("--socket and --url exclude each other"), ""}
	}
	if c.socket == "" && c.url == "" {
		c.url, c.socket = a.env("WINDLASS_URL"), a.env("WINDLASS_SOCKET")
		if c.url != "" && c.socket != "" {
			return nil, usageError{errors.New("WINDLASS_SOCKET and WINDLASS_URL are both set; they exclude each other"), ""}
		}
	}
	if c.socket == "" && c.url == "" {
		c.socket = config.DefaultSocket
	}
	if c.socket != "" {
		c.url = (&url.URL{Scheme: "unix", Path: c.socket}).String()
	}
	for name, at := range map[string]*string{"WINDLASS_CACERT": &c.ca, "WINDLASS_CERT": &c.cert, "WINDLASS_KEY": &c.key} {
		if *at == "" {
			*at = a.env(name)
		}
	}
	return c.open()
}

func (c connection) open() (*api, error) {
	u, err := url.Parse(c.url)
	if err != nil {
		return nil, usageError{fmt.Errorf("--url: %w", err), ""}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2, Proxy: nil}
	out := &api{addr: u.Redacted(), http: &http.Client{Transport: transport}}
	host, scheme := u.Host, u.Scheme
	switch {
	case scheme == "unix" && u.Path != "" && u.Host == "":
		out.addr, out.local, host, scheme = u.Path, true, "localhost", "http"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}
	case scheme == "https" && host != "":
		if transport.TLSClientConfig, err = c.tls(); err != nil {
			return nil, usageError{err, ""}
		}
	case scheme == "http" && host != "":
	default:
		return nil, usageError{fmt.Errorf("--url: %q is none of http://HOST:PORT, https://HOST:PORT, unix:///PATH", u.Redacted()), ""}
	}
	out.base = scheme + "://" + host + client.DefaultBasePath
	out.Windlass = client.New(httptransport.NewWithClient(host, client.DefaultBasePath, []string{scheme}, out.http), strfmt.Default)
	return out, nil
}

func (c connection) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s holds no certificate in PEM", c.ca)
		}
	}
	if (c.cert == "") != (c.key == "") {
		return nil, errors.New("--cert and --key go together")
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// unreachableError says that no daemon answered.
type unreachableError struct {
	addr string
	err  error
}

func (e *unreachableError) Error() string {
	err := e.err
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	text := fmt.Sprintf("cannot reach the daemon at %s: %v: ", e.addr, err)
	if errors.Is(err, fs.ErrPermission) {
		return text + "its socket is for root: use sudo, or an https listener with --url"
	}
	return text + "is `windlass serve` running? Name another with --socket or --url"
}

func (e *unreachableError) Unwrap() error { return e.err }
