package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// silencePatience is how long the guest may say nothing after that: longer than a test waits for anything, such as the kernel for a server that
// does not answer.
const silencePatience = 180 * time.Second

// tailSize is how much of what the kernel said is shown when it goes wrong.
const tailSize = 8 << 10

// read passes the lines of the guest on until it ends.
func (m *Machine) read(out io.Reader) {
	defer close(m.lines)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			m.lines <- line
		}
		if err != nil {
			return
		}
	}
}

// tell says a line to the guest's run script.
func (m *Machine) tell(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(m.in, line+"\n"); err != nil {
		t.Fatalf("the guest takes no orders any more: %v", err)
	}
}

// next gives the next line. Once that has failed it fails always.
func (m *Machine) next(patience time.Duration) (string, error) {
	if m.gone != nil {
		return "", m.gone
	}
	line, err := m.line(patience)
	m.gone = err
	return line, err
}

func (m *Machine) line(patience time.Duration) (string, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case line, ok := <-m.lines:
		switch {
		case !ok:
			return "", errors.New("the guest has ended before its time")
		case strings.HasPrefix(line, "guest: failed: "):
			return "", errors.New(strings.TrimSpace(line))
		}
		return line, nil
	case <-late.C:
		return "", fmt.Errorf("the guest has said nothing for %s", patience)
	}
}

// await reads up to the line that begins with prefix and gives the rest of that.
func (m *Machine) await(t testing.TB, prefix string, patience time.Duration) string {
	t.Helper()
	for {
		line, err := m.next(patience)
		if err != nil {
			t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
}

// tail is the last that the kernel said.
func (m *Machine) tail() string {
	data, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return "the kernel's last words:\n" + string(data[max(0, len(data)-tailSize):])
}
