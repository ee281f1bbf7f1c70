package evilorigin

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func status(line string, header ...string) func(*Exchange) bool {
	return func(x *Exchange) bool { return x.Status(line, append(header, "Content-Length: 0")...) }
}

// in turn answers requests by one after the other.
func inTurn(answers ...func(*Exchange) bool) func(*Exchange) bool {
	var n atomic.Int64
	return func(x *Exchange) bool { return answers[int(n.Add(1)-1)%len(answers)](x) }
}

// repeat writes text until the peer has gone, with a pause between.
func repeat(x *Exchange, text string, pause time.Duration) bool {
	for {
		if _, err := io.WriteString(x.Conn, text); err != nil {
			return false
		}
		if pause > 0 {
			time.Sleep(pause) // this is what it is evil by
		}
	}
}

const html = "<!DOCTYPE html><html><body>Please sign in to use this network.</body></html>"

// gzipBomb is 8 MB of zeros in 8 KB.
var gzipBomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 8 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()
})

// answers by status alone.
func statusScripts() []Script {
	return []Script{
		{Name: "204", HTTP: func(x *Exchange) bool { return x.Status("204 No Content") }},
		{Name: "304", HTTP: func(x *Exchange) bool { return x.Status("304 Not Modified") }},
		{Name: "416", HTTP: status("416 Range Not Satisfiable", "Content-Range: bytes */1")},
		{Name: "status 999", HTTP: status("999 Whatever")},
		{Name: "101 switching protocols", HTTP: func(x *Exchange) bool {
			x.Status("101 Switching Protocols", "Connection: upgrade", "Upgrade: evil")
			return x.Stall()
		}},
		{Name: "401", HTTP: status("401 Unauthorized", `WWW-Authenticate: Basic realm="x"`)},
		{Name: "403", HTTP: status("403 Forbidden")},
		{Name: "404", HTTP: status("404 Not Found")},
		{Name: "410", HTTP: status("410 Gone")},
		{Name: "401 403 404 by turns", HTTP: inTurn(status("401 Unauthorized"), status("403 Forbidden"), status("404 Not Found"))},
		{Name: "404 every other time", HTTP: inTurn(status("404 Not Found"), (*Exchange).Good)},
		{Name: "5xx storm", HTTP: inTurn(status("500 Internal Server Error"), status("502 Bad Gateway"), status("503 Service Unavailable"), status("504 Gateway Timeout"))},
		{Name: "429 for a year", HTTP: status("429 Too Many Requests", "Retry-After: 31536000")},
		{Name: "503 until 2099", HTTP: status("503 Service Unavailable", "Retry-After: Thu, 01 Jan 2099 00:00:00 GMT")},
		{Name: "1xx flood", HTTP: func(x *Exchange) bool { return repeat(x, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0) }},
		{Name: "1xx trickle", HTTP: func(x *Exchange) bool { return repeat(x, "HTTP/1.1 102 Processing\r\n\r\n", 20*time.Millisecond) }},
	}
}

func redirectScripts() []Script {
	to := func(format string, args ...any) func(*Exchange) bool {
		return status("302 Found", "Location: "+fmt.Sprintf(format, args...))
	}
	var hop atomic.Int64
	return []Script{
		{Name: "redirect to itself", HTTP: func(x *Exchange) bool { return to("/%s", x.Path)(x) }},
		{Name: "redirects without end", HTTP: func(x *Exchange) bool { return to("/hop/%d", hop.Add(1))(x) }},
		{Name: "redirect to a dead host", HTTP: to("http://127.0.0.1:1/")},
		{Name: "redirect to file:", HTTP: to("file:///etc/passwd")},
		{Name: "redirect to gopher:", HTTP: to("gopher://127.0.0.1/")},
		{Name: "redirect to nowhere", HTTP: status("302 Found")},
		{Name: "redirect to rubbish", HTTP: to("http://[::1/%%zz")},
		{Name: "redirect from https to http", TLS: true, HTTP: func(x *Exchange) bool { return to("http://%s/%s", x.Request.Host, x.Path)(x) }},
	}
}

// answers whose header says something wrong.
func headerScripts() []Script {
	ranged := func(format string, shift ...int) func(*Exchange) bool {
		return func(x *Exchange) bool {
			if !x.Ranged {
				return x.Good()
			}
			b := x.Part()
			cr := fmt.Sprintf(format, x.from+shift[0], x.to-1+shift[1], len(x.data)+shift[2])
			return x.Status("206 Partial Content", "Content-Range: "+cr, fmt.Sprintf("Content-Length: %d", len(b))) && x.Body(b)
		}
	}
	return []Script{
		{Name: "wrong start of range", HTTP: ranged("bytes %d-%d/%d", 1, 0, 0)},
		{Name: "wrong end of range", HTTP: ranged("bytes %d-%d/%d", 0, -1, 0)},
		{Name: "wrong total of range", HTTP: ranged("bytes %d-%d/%d", 0, 0, 7)},
		{Name: "range of the beginning", HTTP: func(x *Exchange) bool { x.to -= x.from; x.from = 0; return x.Good() }},
		{Name: "range in lines", HTTP: ranged("lines %d-%d/%d", 0, 0, 0)},
		{Name: "range of unknown total", HTTP: func(x *Exchange) bool {
			return x.Status("206 Partial Content", fmt.Sprintf("Content-Range: bytes %d-%d/*", x.from, x.to-1), fmt.Sprintf("Content-Length: %d", len(x.Part()))) && x.Body(x.Part())
		}},
		{Name: "two Content-Ranges", HTTP: func(x *Exchange) bool {
			return x.Head("Content-Range: bytes 0-0/1", "Content-Range: bytes 1-1/2") && x.Body(x.Part())
		}},
		{Name: "206 without Content-Range", HTTP: func(x *Exchange) bool {
			return x.Status("206 Partial Content", fmt.Sprintf("Content-Length: %d", len(x.Part()))) && x.Body(x.Part())
		}},
		{Name: "Range ignored", HTTP: func(x *Exchange) bool { x.Ranged, x.from, x.to = false, 0, len(x.data); return x.Good() }},
		{Name: "Range ignored, other file", HTTP: func(x *Exchange) bool {
			return x.Status("200 OK", "Content-Length: 5000000") && x.Body(make([]byte, 5_000_000))
		}},
		{Name: "HTML with 200", HTTP: func(x *Exchange) bool {
			return x.Status("200 OK", "Content-Type: text/html", fmt.Sprintf("Content-Length: %d", len(html))) && x.Body([]byte(html))
		}},
		{Name: "HTML with 206", HTTP: func(x *Exchange) bool {
			n := len(x.Part())
			return x.Head("Content-Type: text/html") && x.Body([]byte(strings.Repeat(html, n/len(html)+1))[:n])
		}},
		{Name: "multipart", HTTP: func(x *Exchange) bool {
			return x.Status("206 Partial Content", "Content-Type: multipart/byteranges; boundary=B", "Content-Range: "+x.contentRange(),
				fmt.Sprintf("Content-Length: %d", len(x.Part()))) && x.Body(x.Part())
		}},
		{Name: "gzip bomb", HTTP: func(x *Exchange) bool {
			b := gzipBomb()
			return x.headOf(len(b), "Content-Encoding: gzip") && x.Body(b)
		}},
		{Name: "deflate", HTTP: func(x *Exchange) bool { return x.Head("Content-Encoding: deflate") && x.Body(x.Part()) }},
		{Name: "Content-Length twice", HTTP: func(x *Exchange) bool { return x.Head("Content-Length: 1") && x.Body(x.Part()) }},
		{Name: "negative Content-Length", HTTP: func(x *Exchange) bool { return x.headOf(-1, "Content-Length: -5") && x.Body(x.Part()) }},
		{Name: "Content-Length of a terabyte", HTTP: func(x *Exchange) bool { return x.headOf(1<<40) && x.Body(x.Part()) && x.Stall() }},
		{Name: "huge header", HTTP: func(x *Exchange) bool { return x.Head("X: "+strings.Repeat("x", 1<<20)) && x.Body(x.Part()) }},
		{Name: "header without end", HTTP: func(x *Exchange) bool {
			return x.Write("HTTP/1.1 200 OK\r\n") && repeat(x, "X-More: "+strings.Repeat("y", 1000)+"\r\n", 0)
		}},
		{Name: "header drips", HTTP: func(x *Exchange) bool {
			return x.Write("HTTP/1.1 200 OK\r\nX: ") && repeat(x, "z", 20*time.Millisecond)
		}},
		{Name: "no header, rubbish", HTTP: func(x *Exchange) bool { x.Write("\x00\xff\x00SSH-2.0-rubbish\r\n\r\n"); return false }},
		{Name: "HTTP/0.9", HTTP: func(x *Exchange) bool { x.Body(x.Part()); return false }},
	}
}
