package supervise

import (
	"bufio"
	"errors"
	"os"
	"strings"
)

// maxLine is how much of a line is kept together.
const maxLine = 16 << 10

// pipe gives what all lives of the daemon write to: it never ends, for what the daemon has left running may still hold it.
func (d *Daemon) pipe() (*os.File, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer in.Close()
		r := bufio.NewReaderSize(in, maxLine)
		for {
			line, err := r.ReadSlice('\n')
			if len(line) > 0 {
				d.mu.Lock()
				d.last = strings.TrimSpace(string(line[:min(len(line), 300)]))
				d.mu.Unlock()
				if line[len(line)-1] != '\n' {
					line = append(line, '\n')
				}
				_, _ = d.Log.Write(line) // there is nobody to tell
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return out, nil
}
