package holders

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
)

// list collects texts from a search that may be left behind: after close nothing is added any more.
type list struct {
	mu     sync.Mutex
	max    int
	seen   map[string]bool
	texts  []string
	more   int
	closed bool
}

func newList(max int) *list { return &list{max: max, seen: map[string]bool{}} }

func (l *list) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.seen[text] {
		return
	}
	l.seen[text] = true
	if len(l.texts) == l.max {
		l.more++
		return
	}
	l.texts = append(l.texts, text)
}

// stop says that there is no point in searching on.
func (l *list) stop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.more > 0
}

func (l *list) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.texts) == 0
}

func (l *list) close() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.more > 0 {
		l.texts = append(l.texts, "and more")
	}
	return l.texts
}

// printable makes a name safe to show: process and file names come from images and may hold anything.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, name)
}
