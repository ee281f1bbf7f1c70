package journal

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// backlog is how many lines may wait for a console.
const backlog = 512

// Console writes lines to what may be slow or stuck, such as a serial line. Who writes never waits: lines for which there is no room are
// left out, and their number is told.
type Console struct {
	to    io.Writer
	lines chan []byte
	idle  chan chan struct{}

	mu   sync.Mutex
	lost int
}

// NewConsole starts writing to w; it goes on as long as the process.
func NewConsole(w io.Writer) *Console {
	c := &Console{to: w, lines: make(chan []byte, backlog), idle: make(chan chan struct{})}
	go c.run()
	return c
}

func (c *Console) run() {
	for {
		select {
		case line := <-c.lines:
			c.put(line)
		case done := <-c.idle:
			for len(c.lines) > 0 {
				c.put(<-c.lines)
			}
			close(done)
		}
	}
}

func (c *Console) put(line []byte) {
	_, _ = c.to.Write(line) // there is nobody to tell
	c.mu.Lock()
	lost := c.lost
	if len(c.lines) == 0 {
		c.lost = 0
	} else {
		lost = 0
	}
	c.mu.Unlock()
	if lost > 0 {
		_, _ = fmt.Fprintf(c.to, "windlass: %d lines were left out here: the console is too slow\n", lost)
	}
}

// Write takes whole lines. It never fails.
func (c *Console) Write(p []byte) (int, error) {
	select {
	case c.lines <- append([]byte(nil), p...):
	default:
		c.mu.Lock()
		c.lost++
		c.mu.Unlock()
	}
	return len(p), nil
}

// Flush waits until all is written, at most so long.
func (c *Console) Flush(patience time.Duration) {
	late := time.After(patience)
	done := make(chan struct{})
	select {
	case c.idle <- done:
	case <-late:
		return
	}
	select {
	case <-done:
	case <-late:
	}
}
