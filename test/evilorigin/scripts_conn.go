package evilorigin

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func connScripts() []Script {
	return []Script{
		{Name: "accepted and never read", Conn: func(s *Server, c net.Conn) {
			s.wait(c)
		}},
		{Name: "accepted and closed", Conn: func(*Server, net.Conn) {}},
		{Name: "accepted and reset", Conn: func(_ *Server, c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }},
		{Name: "answer before the request", Conn: func(_ *Server, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			drain(c)
		}},
	}
}

// wait waits until the server is closed or the peer has gone, without reading what it sends: the peer's end is seen by writing.
func (s *Server) wait(c net.Conn) {
	for {
		time.Sleep(20 * time.Millisecond) // there is no event for it
		s.mu.Lock()
		closed := s.conns == nil
		s.mu.Unlock()
		if closed || tcpGone(c) {
			return
		}
	}
}

func tlsScripts() []Script {
	with := func(pick func(*Certs) tls.Certificate) func(*Server, net.Conn) {
		return func(s *Server, c net.Conn) {
			tc := tls.Server(c, s.certs.config(pick(s.certs), false))
			if tc.Handshake() == nil {
				s.serveHTTP(tc)
			}
		}
	}
	return []Script{
		{Name: "certificate expired", TLS: true, Conn: with(func(c *Certs) tls.Certificate { return c.Expired })},
		{Name: "certificate of another name", TLS: true, Conn: with(func(c *Certs) tls.Certificate { return c.WrongName })},
		{Name: "certificate self-signed", TLS: true, Conn: with(func(c *Certs) tls.Certificate { return c.SelfSigned })},
		{Name: "TLS handshake stalls", TLS: true, Conn: func(_ *Server, c net.Conn) { drain(c) }},
		{Name: "plain text on the TLS port", TLS: true, Conn: func(_ *Server, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			drain(c)
		}},
		{Name: "rubbish on the TLS port", TLS: true, Conn: func(_ *Server, c net.Conn) {
			_, _ = c.Write(bytes.Repeat([]byte{0x16, 0x03, 0x03, 0xff, 0xff}, 1000))
			drain(c)
		}},
		{Name: "TLS without a common version", TLS: true, Conn: func(s *Server, c net.Conn) {
			cfg := s.certs.config(s.certs.Good, false)
			cfg.MaxVersion = tls.VersionTLS11
			cfg.MinVersion = tls.VersionTLS10
			_ = tls.Server(c, cfg).Handshake()
		}},
	}
}

// h2 gives a script the frames of a connection, and each request's stream.
func h2(answer func(f *http2.Framer, id uint32) bool) func(*Server, net.Conn) {
	return func(s *Server, c net.Conn) {
		tc := tls.Server(c, s.certs.config(s.certs.Good, true))
		preface := make([]byte, len(http2.ClientPreface))
		if tc.Handshake() != nil {
			return
		}
		if _, err := io.ReadFull(tc, preface); err != nil {
			return
		}
		f := http2.NewFramer(tc, tc)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := frame.(*http2.HeadersFrame); ok && !answer(f, h.StreamID) {
				drain(tc)
				return
			}
		}
	}
}

func h2Head(f *http2.Framer, id uint32, fields ...string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
}

func h2Scripts() []Script {
	script := func(name string, answer func(f *http2.Framer, id uint32) bool) Script {
		return Script{Name: name, TLS: true, H2: true, Conn: h2(answer)}
	}
	return []Script{
		script("HTTP/2 GOAWAY", func(f *http2.Framer, id uint32) bool {
			return f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) != nil
		}),
		script("HTTP/2 RST_STREAM", func(f *http2.Framer, id uint32) bool { return f.WriteRSTStream(id, http2.ErrCodeInternal) == nil }),
		script("HTTP/2 REFUSED_STREAM", func(f *http2.Framer, id uint32) bool { return f.WriteRSTStream(id, http2.ErrCodeRefusedStream) == nil }),
		script("HTTP/2 stalls", func(*http2.Framer, uint32) bool { return true }),
		script("HTTP/2 header and RST_STREAM", func(f *http2.Framer, id uint32) bool {
			h2Head(f, id, ":status", "200", "content-length", "1000")
			_ = f.WriteData(id, false, make([]byte, 10))
			return f.WriteRSTStream(id, http2.ErrCodeCancel) == nil
		}),
		script("HTTP/2 data without a header", func(f *http2.Framer, id uint32) bool { return f.WriteData(id, true, []byte("bad")) == nil }),
		script("HTTP/2 header without end", func(f *http2.Framer, id uint32) bool {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id})
			for f.WriteContinuation(id, false, bytes.Repeat([]byte{0x00, 0x01, 'x', 0x01, 'y'}, 1000)) == nil {
			}
			return false
		}),
		script("HTTP/2 rubbish", func(f *http2.Framer, id uint32) bool {
			return f.WriteRawFrame(0xfa, 0xff, id, []byte(strings.Repeat("bad", 1000))) == nil && f.WriteRawFrame(http2.FrameHeaders, 0xff, id, []byte("bad")) == nil
		}),
	}
}

// Scripts are all of them.
func Scripts() []Script {
	var all []Script
	for _, some := range [][]Script{statusScripts(), redirectScripts(), headerScripts(), bodyScripts(), bytesScripts(), tagScripts(), connScripts(), tlsScripts(), h2Scripts()} {
		all = append(all, some...)
	}
	return all
}
