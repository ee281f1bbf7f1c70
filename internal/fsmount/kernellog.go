package fsmount

import (
	"path/filepath"
	"strings"
	"unicode"

	"github.com/windlass-hpc/windlass/internal/kernellog"
)

// maxMessages is how many lines of the kernel's log are told.
const maxMessages = 4

// kernelLog gives what the kernel logs from now on about one thing. Several file systems, ext4 and xfs among them, tell why they do not
// mount only there.
type kernelLog struct {
	log  *kernellog.Log // nil when there is nothing to look for
	word string         // lines with this word are ours
}

// openKernelLog begins to listen for lines about about: a block device, or a word.
func openKernelLog(about string) *kernelLog {
	if about == "" {
		return &kernelLog{}
	}
	return &kernelLog{kernellog.Open(), filepath.Base(about)}
}

func (l *kernelLog) messages() []string {
	if l.log == nil {
		return nil
	}
	all := l.log.Lines(func(line string) bool { return hasWord(line, l.word) })
	return all[:min(len(all), maxMessages)]
}

func (l *kernelLog) close() {
	if l.log != nil {
		l.log.Close()
	}
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
