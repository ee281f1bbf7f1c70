package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/execstream"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxOutput is how much of each stream the plain answer holds.
const maxOutput = 1 << 20

func (s *Server) exec(w http.ResponseWriter, c *call) error {
	spec := &models.ExecSpec{}
	if err := c.decode(spec); err != nil {
		return err
	}
	upgrade, err := wantsStream(c.Request)
	if err != nil {
		return err
	}
	parent := c.Context()
	if upgrade {
		parent = context.WithoutCancel(parent) // net/http ends it when the client closes its sending half, which is no end here
	}
	ctx, cancel := s.streamContext(parent)
	defer cancel()
	proc, err := s.chain.Exec(ctx, *c.params.Int64("id"), spec)
	if err != nil {
		return err
	}
	defer proc.Close()
	if upgrade {
		return s.execStream(ctx, w, c, proc)
	}
	return s.execPlain(ctx, w, proc)
}

// wantsStream reads the headers that ask for a stream.
func wantsStream(r *http.Request) (bool, error) {
	asked := r.Header.Get("Upgrade")
	if asked == "" {
		return false, nil
	}
	connection := strings.ToLower(strings.Join(r.Header.Values("Connection"), ","))
	if !strings.EqualFold(asked, execstream.Protocol) || !strings.Contains(connection, "upgrade") {
		return false, fault.New(fault.Invalid, "the connection can only be upgraded with the headers Connection: Upgrade and Upgrade: %s", execstream.Protocol)
	}
	return true, nil
}

// execPlain collects the output. When the client leaves, the process is killed.
func (s *Server) execPlain(ctx context.Context, w http.ResponseWriter, proc container.Process) error {
	proc.Stdin().Close()
	var stdout, stderr limited
	exit, err := s.drain(ctx, proc, &stdout, &stderr)
	if err != nil {
		if s.streams.Err() != nil {
			return errStopping()
		}
		return err
	}
	return s.answer(w, http.StatusOK, &models.ExecResult{
		ExitCode: int64(exit.Code), ExitSignal: exit.Signal,
		Stdout: stdout.text(), Stderr: stderr.text(), Truncated: stdout.cut || stderr.cut,
	})
}

// limited keeps the beginning and counts the rest away.
type limited struct {
	kept []byte
	cut  bool
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), maxOutput-len(l.kept))
	l.kept = append(l.kept, p[:keep]...)
	l.cut = l.cut || keep < len(p)
	return len(p), nil
}

func (l *limited) text() string { return strings.ToValidUTF8(string(l.kept), "\uFFFD") }

// streamsOf pairs a process's outputs with where they go.
func streamsOf(proc container.Process, stdout, stderr io.Writer) []*copier {
	out := []*copier{newCopier(stdout, proc.Stdout())}
	if r := proc.Stderr(); r != nil {
		out = append(out, newCopier(stderr, r))
	}
	return out
}
