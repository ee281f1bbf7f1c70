// Package kernellog reads what the kernel logs from some moment on: much of what it knows of a failure it tells only there.
//
// It takes nothing out of the log, and it is no reason to fail: where the log cannot be read there are no lines.
package kernellog

import (
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// most bounds the records that are looked at: a kernel that logs without end must not hold up its reader.
const most = 1024

// Log is the kernel's log from the moment of Open on. It is used by one goroutine.
type Log struct{ fd int }

// Open begins to listen. The answer is never nil.
func Open() *Log {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Log{-1}
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return &Log{-1}
	}
	return &Log{fd}
}

// Lines gives what was logged since Open, or since Lines was called last, where want says so. What cannot be printed is shown as '?'.
func (l *Log) Lines(want func(line string) bool) []string {
	if l.fd < 0 {
		return nil
	}
	var all []string
	buf := make([]byte, 8192) // the kernel gives one record, of 8 KiB at most
	for range most {
		n, err := unix.Read(l.fd, buf)
		if err == unix.EPIPE { // older lines were overwritten
			continue
		}
		if err != nil {
			break
		}
		if text, ok := record(string(buf[:n])); ok && want(text) {
			all = append(all, Printable(text))
		}
	}
	return all
}

// Close ends the listening.
func (l *Log) Close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
		l.fd = -1
	}
}

// record gives the text of a record of /dev/kmsg: "6,1234,5678,-;text\n KEY=value\n" (Documentation/ABI/testing/dev-kmsg).
func record(s string) (string, bool) {
	_, text, ok := strings.Cut(s, ";")
	if !ok {
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSpace(text), true
}

// Printable makes what the kernel says safe to show, in its log or elsewhere: it quotes from images and from the network.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
