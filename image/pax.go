package image

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// paxWriter writes a tar archive in the pax format (POSIX.1-2001). archive/tar would not do: it writes no holes and refuses names of
// attributes that exist. What it gives depends on what it is given alone.
type paxWriter struct {
	w       io.Writer
	pending int64 // bytes of content that are still to come
	pad     int64 // and what fills the last block then
}

// paxEntry is the head of one entry. Names are bytes of any kind but NUL.
type paxEntry struct {
	name         string // directories end in a slash
	kind         byte   // as in tar: '0' file, '1' hard link, '2' link, '3' '4' devices, '5' directory, '6' fifo
	link         string
	mode         uint32 // permissions
	uid, gid     uint32
	size         int64 // of the content as it follows
	time         time.Time
	major, minor uint32
	records      map[string]string // such as SCHILY.xattr.user.x
}

const tarBlock = 512

// next begins an entry; its content is written by Write.
func (p *paxWriter) next(e paxEntry) error {
	if p.pending > 0 {
		return fault.New(fault.Internal, "%d bytes of the entry before %q are missing", p.pending, e.name)
	}
	if err := p.fill(); err != nil {
		return err
	}
	records := maps.Clone(e.records)
	if records == nil {
		records = map[string]string{}
	}
	head := e.header(records)
	if len(records) > 0 {
		body := paxBody(records)
		x := paxEntry{name: "PaxHeaders/x", kind: 'x', mode: 0o644, size: int64(len(body))}
		out := slices.Concat(x.header(nil), body, make([]byte, -len(body)&(tarBlock-1)))
		if _, err := p.w.Write(out); err != nil {
			return err
		}
	}
	p.pending, p.pad = e.size, -e.size&(tarBlock-1)
	_, err := p.w.Write(head)
	return err
}

// Write writes content of the entry.
func (p *paxWriter) Write(b []byte) (int, error) {
	if int64(len(b)) > p.pending {
		return 0, fault.New(fault.Internal, "more content than the entry has")
	}
	n, err := p.w.Write(b)
	p.pending -= int64(n)
	return n, err
}

// zeros writes n zeros as content.
func (p *paxWriter) zeros(n int64) error {
	block := make([]byte, min(n, 64<<10))
	for n > 0 {
		m, err := p.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

func (p *paxWriter) fill() error {
	_, err := p.w.Write(make([]byte, p.pad))
	p.pad = 0
	return err
}

// end writes the mark of the end.
func (p *paxWriter) end() error {
	if err := p.fill(); err != nil {
		return err
	}
	_, err := p.w.Write(make([]byte, 2*tarBlock))
	return err
}

// header makes the block of an entry and adds to records what does not fit in it.
func (e *paxEntry) header(records map[string]string) []byte {
	b := make([]byte, tarBlock)
	text := func(at, size int, key, s string) {
		if len(s) <= size && ascii(s) {
			copy(b[at:at+size], s)
			return
		}
		records[key] = s
		copy(b[at:at+size], strings.Map(func(r rune) rune {
			if r < 0x80 {
				return r
			}
			return '_'
		}, s[:min(len(s), size)]))
	}
	number := func(at, size int, key string, n int64) {
		s := fmt.Sprintf("%0*o", size-1, n)
		if n < 0 || len(s) > size-1 {
			records[key], s = strconv.FormatInt(n, 10), strings.Repeat("0", size-1)
		}
		copy(b[at:], s)
	}
	text(0, 100, "path", e.name)
	number(100, 8, "", int64(e.mode))
	number(108, 8, "uid", int64(e.uid))
	number(116, 8, "gid", int64(e.gid))
	number(124, 12, "size", e.size)
	sec := int64(0)
	if records != nil {
		if sec = e.time.Unix(); e.time.Nanosecond() != 0 || sec < 0 {
			records["mtime"] = paxTime(e.time)
		}
	}
	copy(b[136:], fmt.Sprintf("%011o", min(max(sec, 0), 1<<33-1)))
	if sec >= 1<<33 {
		records["mtime"] = paxTime(e.time)
	}
	b[156] = e.kind
	text(157, 100, "linkpath", e.link)
	copy(b[257:], "ustar\x0000")
	number(329, 8, "SCHILY.devmajor", int64(e.major))
	number(337, 8, "SCHILY.devminor", int64(e.minor))
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// paxTime writes seconds with a fraction; of times before 1970 both count backwards.
func paxTime(t time.Time) string {
	sec, ns := t.Unix(), int64(t.Nanosecond())
	sign := ""
	if sec < 0 {
		sign, sec = "-", -sec
		if ns > 0 {
			sec, ns = sec-1, 1e9-ns
		}
	}
	if ns == 0 {
		return sign + strconv.FormatInt(sec, 10)
	}
	return sign + strconv.FormatInt(sec, 10) + "." + strings.TrimRight(fmt.Sprintf("%09d", ns), "0")
}

// paxBody writes records, each `LENGTH KEY=VALUE` and a line end; the length counts itself.
func paxBody(records map[string]string) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(records)) {
		rest := len(k) + len(records[k]) + 3
		n := rest + len(strconv.Itoa(rest))
		if m := rest + len(strconv.Itoa(n)); m > n {
			n = m
		}
		fmt.Fprintf(&b, "%d %s=%s\n", n, k, records[k])
	}
	return b.Bytes()
}
