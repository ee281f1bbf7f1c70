package web

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// Connections that wait for nothing make room for new ones, also when they become idle only while somebody waits.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := newLimited(tcp, 2)
	slow := make(chan struct{})
	server := &http.Server{ConnState: l.state, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-slow
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	get := func(path string) error {
		c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}} // keeps its connection
		t.Cleanup(c.CloseIdleConnections)
		resp, err := c.Get("http://" + l.Addr().String() + path)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	for i := range 6 {
		if err := get("/"); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	answered := make(chan error, 3)
	for range 2 {
		go func() { answered <- get("/slow") }()
	}
	go func() { answered <- get("/") }() // has to wait for one of them, or made room for itself before
	close(slow)
	for range 3 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
	server.Close()
	<-ended
}

// One address cannot take the server from the others.
func TestOneAddressHasItsShare(t *testing.T) {
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := newLimited(tcp, 4096)
	server := &http.Server{ConnState: l.state, Handler: http.NotFoundHandler()}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	for range maxOfOne + 20 {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	other := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	if resp, err := other.Get("http://" + l.Addr().String()); err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	l.mu.Lock()
	n := l.of[netip.MustParseAddr("127.0.0.1")]
	l.mu.Unlock()
	if n != maxOfOne {
		t.Errorf("one address has %d connections", n)
	}
	server.Close()
	<-ended
	if len(l.slots) != 0 || len(l.of) != 0 {
		t.Errorf("%d places and %d addresses are still counted", len(l.slots), len(l.of))
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l := newLimited(tcp, 2)
	accepted := make(chan net.Conn, 10)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	second := <-accepted
	defer second.Close()
	select {
	case <-accepted:
		t.Fatal("a third connection was accepted")
	case <-time.After(50 * time.Millisecond): // nothing is to happen
	}
	first.Close()
	first.Close() // gives one place free, not two
	third := <-accepted
	defer third.Close()
	l.Close()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
}
