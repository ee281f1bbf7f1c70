package fsmount

import (
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxMessages is how many lines of the kernel's log are told.
const maxMessages = 4

// kernelLog reads what the kernel logs from now on. Several file systems, ext4 and xfs among them, tell why they do not mount only
// there. Where it cannot be read there are no messages.
type kernelLog struct {
	fd   int
	word string // lines with this word are ours
}

// openKernelLog begins to listen for lines about about: a block device, or a word.
func openKernelLog(about string) *kernelLog {
	l := &kernelLog{fd: -1, word: filepath.Base(about)}
	if about == "" {
		return l
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return l
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return l
	}
	l.fd = fd
	return l
}

func (l *kernelLog) messages() []string {
	if l.fd < 0 {
		return nil
	}
	var all []string
	buf := make([]byte, 8192)
	for range 256 {
		n, err := unix.Read(l.fd, buf)
		if err == unix.EPIPE { // older lines were overwritten
			continue
		}
		if err != nil {
			break
		}
		text, ok := record(string(buf[:n]))
		if ok && hasWord(text, l.word) && len(all) < maxMessages {
			all = append(all, printable(text))
		}
	}
	return all
}

func (l *kernelLog) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
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

// hasWord tells loop1 from loop12.
func hasWord(text, word string) bool {
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }) {
		if w == word {
			return true
		}
	}
	return false
}

// printable makes what the kernel says safe to show: it quotes from images.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
