package evilorigin

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

func altered(change func(x *Exchange, b []byte)) func(*Exchange) bool {
	return func(x *Exchange) bool {
		if !x.Found || strings.HasPrefix(x.Path, "tags/") { // another tag is no damage that can be seen
			return x.Good()
		}
		b := bytes.Clone(x.Part())
		change(x, b)
		return x.Head() && x.Body(b)
	}
}

// answers that begin well.
func bodyScripts() []Script {
	half := func(x *Exchange) bool { return x.Head() && x.Body(x.Part()[:len(x.Part())/2]) }
	return []Script{
		{Name: "slow drip", HTTP: func(x *Exchange) bool { return x.Head() && repeat(x, "d", 20*time.Millisecond) }},
		{Name: "stall before the header", HTTP: (*Exchange).Stall},
		{Name: "stall after the header", HTTP: func(x *Exchange) bool { return x.Head() && x.Stall() }},
		{Name: "stall in the body", HTTP: func(x *Exchange) bool { return half(x) && x.Stall() }},
		{Name: "stall at the last byte", HTTP: func(x *Exchange) bool { return x.Head() && x.Body(x.Part()[:len(x.Part())-1]) && x.Stall() }},
		{Name: "reset before the header", HTTP: (*Exchange).Reset},
		{Name: "reset after the header", HTTP: func(x *Exchange) bool { return x.Head() && x.Reset() }},
		{Name: "reset in the body", HTTP: func(x *Exchange) bool { return half(x) && x.Reset() }},
		{Name: "closed before the header", HTTP: func(*Exchange) bool { return false }},
		{Name: "truncated", HTTP: func(x *Exchange) bool { half(x); return false }},
		{Name: "truncated, no length", HTTP: func(x *Exchange) bool {
			x.headOf(-1, "Connection: close")
			x.Body(x.Part()[:len(x.Part())/2])
			return false
		}},
		{Name: "longer than its length", HTTP: func(x *Exchange) bool {
			return x.Head() && x.Body(x.Part()) && x.Body(bytes.Repeat([]byte("more"), 10000))
		}},
		{Name: "rubbish between answers", HTTP: func(x *Exchange) bool { return x.Good() && x.Write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad") }},
		{Name: "closed after each answer", HTTP: func(x *Exchange) bool { x.Good(); return false }},
		{Name: "chunks without end", HTTP: func(x *Exchange) bool {
			return x.headOf(-1, "Transfer-Encoding: chunked") && repeat(x, fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat("c", 0x10000)), 0)
		}},
		{Name: "200 in chunks without end", HTTP: func(x *Exchange) bool {
			return x.Status("200 OK", "Transfer-Encoding: chunked") && repeat(x, fmt.Sprintf("10000\r\n%s\r\n", strings.Repeat("c", 0x10000)), 0)
		}},
		{Name: "broken chunks", HTTP: func(x *Exchange) bool {
			return x.headOf(-1, "Transfer-Encoding: chunked") && x.Write("zzz\r\nbad\r\n") && x.Stall()
		}},
		{Name: "chunk of 16 EiB", HTTP: func(x *Exchange) bool {
			return x.headOf(-1, "Transfer-Encoding: chunked") && x.Write("ffffffffffffffff\r\n") && repeat(x, strings.Repeat("c", 0x10000), 0)
		}},
		{Name: "trailer without end", HTTP: func(x *Exchange) bool {
			b := x.Part()
			return x.headOf(-1, "Transfer-Encoding: chunked") && x.Write("%x\r\n%s\r\n0\r\n", len(b), b) && repeat(x, "X-More: "+strings.Repeat("y", 1000)+"\r\n", 0)
		}},
		{Name: "body without end", HTTP: func(x *Exchange) bool {
			return x.headOf(-1, "Connection: close") && repeat(x, strings.Repeat("b", 0x10000), 0)
		}},
	}
}

// answers that look right and hold other bytes.
func bytesScripts() []Script {
	return []Script{
		{Name: "zeros", HTTP: altered(func(_ *Exchange, b []byte) { clear(b) })},
		{Name: "a bit flipped here and there", HTTP: altered(func(_ *Exchange, b []byte) {
			for i := range len(b)/20_000 + 1 { // not only where nobody looks
				b[min(i*20_000+5000, len(b)-1)] ^= 4
			}
		})},
		{Name: "bytes swapped", HTTP: altered(func(_ *Exchange, b []byte) { b[0], b[len(b)-1] = b[len(b)-1], b[0]+1 })},
		{Name: "another part of the file", HTTP: altered(func(x *Exchange, b []byte) { copy(b, x.data[(x.from+len(b)/2)%len(x.data):]) })},
		{Name: "the version before", HTTP: altered(func(x *Exchange, b []byte) {
			for i := range b {
				b[i] ^= byte(x.from + i)
			}
			b[0]++
		})},
		{Name: "another file of the same length", HTTP: func(x *Exchange) bool {
			for name, other := range x.Server.files {
				if strings.HasPrefix(x.Path, "tags/") {
					return x.Good()
				}
				if name != x.Path && len(other) >= x.to {
					return x.Head() && x.Body(other[x.from:x.to])
				}
			}
			return x.Head() && x.Body(make([]byte, x.to-x.from))
		}},
	}
}

// only tags are wrong.
func tagScripts() []Script {
	tag := func(text string) func(*Exchange) bool {
		return func(x *Exchange) bool {
			if !strings.HasPrefix(x.Path, "tags/") {
				return x.Good()
			}
			x.data, x.Found = []byte(text), true
			x.from, x.to = 0, len(text)
			return x.Good()
		}
	}
	return []Script{
		{Name: "tag is rubbish", HTTP: tag("rubbish\n")},
		{Name: "tag is empty", HTTP: tag("")},
		{Name: "tag is huge", HTTP: tag(strings.Repeat("blake3:", 1<<18))},
		{Name: "tag with more behind it", HTTP: tag("blake3:" + strings.Repeat("a", 64) + "\nblake3:" + strings.Repeat("b", 64) + "\n")},
	}
}
