// Package fetch reads a file from a web server or from this node as one stream of bytes, whatever happens to the connection.
//
// It owns the connections it makes: it asks again when they break or stall, goes on where they stopped, and finds out when the file
// has become another meanwhile. It gives the bytes as they lie on the server: nothing is decompressed. It never keeps a file, never
// decides what is done with the bytes, and never shows a password.
//
// Everything that a server sends is taken as hostile: sizes, redirects, headers, bytes.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

// Config says how a Client behaves. The zero value is usable.
type Config struct {
	// UserAgent is sent with every request; "windlass" when empty.
	UserAgent string
	// ExtraCAs are trusted beside those of the system.
	ExtraCAs []*x509.Certificate
	// Timing is for tests and for odd networks; zero fields get defaults.
	Timing Timing
}

// Timing bounds the parts of a download. The whole is bounded by the context alone.
type Timing struct {
	Connect time.Duration // to reach the server, and again for the TLS handshake
	Header  time.Duration // until the answer begins
	Stall   time.Duration // without a byte, then the connection is given up
	Pause   time.Duration // before the first try again; doubles, with jitter
	Longest time.Duration // no pause is longer
	Tries   int           // in a row without real progress, then it has failed
}

// maxHeader bounds the header of an answer.
const maxHeader = 256 << 10

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Connect, 10*time.Second)
	def(&t.Header, 30*time.Second)
	def(&t.Stall, 20*time.Second)
	def(&t.Pause, 250*time.Millisecond)
	def(&t.Longest, 5*time.Second)
	if t.Tries <= 0 {
		t.Tries = 5
	}
	return t
}

// Client opens sources. It is safe for many goroutines and keeps no connection open after a Body is closed.
type Client struct {
	agent  string
	timing Timing
	http   *http.Transport // and no http.Client: that one quotes what a server redirects to in its errors
}

// New makes a client.
func New(cfg Config) *Client {
	t := cfg.Timing.withDefaults()
	c := &Client{agent: cfg.UserAgent, timing: t}
	if c.agent == "" {
		c.agent = "windlass"
	}
	// HTTP/1 alone: one connection a file gains nothing from multiplexing, and it is the smaller thing to attack.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	c.http = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: t.Connect}).DialContext,
		TLSHandshakeTimeout:    t.Connect,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool(cfg.ExtraCAs)},
		ResponseHeaderTimeout:  t.Header,
		MaxResponseHeaderBytes: maxHeader,
		// A digest is over the bytes as they are, and a small answer must not unpack into a huge one.
		DisableCompression: true,
		DisableKeepAlives:  true,
		Protocols:          &protocols,
	}
	return c
}

// pool gives nil, which means the system's own, when there is nothing to add.
func pool(extra []*x509.Certificate) *x509.CertPool {
	if len(extra) == 0 {
		return nil
	}
	p, err := x509.SystemCertPool()
	if err != nil {
		p = x509.NewCertPool() // a system without certificates still trusts what it is told to
	}
	for _, ca := range extra {
		p.AddCert(ca)
	}
	return p
}

// Options are for one download.
type Options struct {
	// Limit is how many bytes the file may have; 0: any number.
	Limit int64
	// Sealed says that the caller checks a digest at the end. Then a broken download goes on where it stopped also when the server
	// gives nothing by which a changed file would be noticed.
	Sealed bool
	// Loose says that nobody will ask for the digest, so it need not be computed: SHA-256 is slower than a network on many processors.
	Loose bool
	// Progress is told at most five times a second, and at the end, how many bytes have come, of how many (0: not known). It is
	// called by the goroutine that reads.
	Progress func(done, total int64)
}

// Open begins to read src. The first connection has been made and the answer's header looked at when it returns. Errors have a kind:
// NotFound, TooLarge, Invalid for a file of this node that is not a regular one, Backend for a server that does not do its part.
func (c *Client) Open(ctx context.Context, src *Source, o Options) (*Body, error) {
	b := &Body{ctx: ctx, src: src, opts: o, tally: newTally(o.Loose)}
	var err error
	if src.IsFile() {
		b.from, err = openFile(src, b.tally)
	} else {
		b.from, err = openWeb(ctx, c, src, b.tally, o.Sealed)
	}
	if err != nil {
		return nil, err
	}
	if err := b.checkLimit(); err != nil {
		_ = b.from.Close()
		return nil, err
	}
	return b, nil
}
