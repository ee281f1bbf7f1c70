//go:build guest

package initboot

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for a machine on which much else runs.
const patience = 4 * time.Minute

// node is a guest.
type node struct {
	t       *testing.T
	in      io.Writer
	api     string // where its API can be reached
	qemu    string // socket of the emulator's monitor
	exited  chan struct{}
	mu      sync.Mutex
	console bytes.Buffer
	more    chan struct{} // closed when there is more
}

func freePort(t *testing.T) int {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	return port(l)
}

func (n *node) read(out io.Reader) {
	defer close(n.exited)
	r := bufio.NewReader(out)
	buf := make([]byte, 4096)
	for {
		c, err := r.Read(buf)
		n.mu.Lock()
		n.console.Write(buf[:c])
		close(n.more)
		n.more = make(chan struct{})
		n.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (n *node) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.ReplaceAll(n.console.String(), "\r", "")
}

// await waits until the console shows all of the texts.
func (n *node) await(texts ...string) {
	n.t.Helper()
	late := time.After(patience)
	for {
		n.mu.Lock()
		more := n.more
		n.mu.Unlock()
		missing := ""
		for _, text := range texts {
			if !strings.Contains(n.text(), text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-more:
		case <-n.exited:
			if !strings.Contains(n.text(), missing) {
				n.t.Fatalf("the guest has ended without %q", missing)
			}
		case <-late:
			n.t.Fatalf("the console does not show %q", missing)
		}
	}
}

// types types a line on the console, as a person would.
func (n *node) types(line string) {
	n.t.Helper()
	if _, err := io.WriteString(n.in, line+"\n"); err != nil {
		n.t.Fatal(err)
	}
}

// ends waits until the guest has switched itself off or begins anew.
func (n *node) ends() {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Fatal("the guest does not end")
	}
}

// get asks the API of the node and gives the answer; what is neither 200 nor 201 is an error.
func (n *node) get(path string) (string, error) { return n.send(http.MethodGet, path, "") }

func (n *node) send(method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.api+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return string(text), err
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}
