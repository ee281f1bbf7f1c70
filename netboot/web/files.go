package web

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/script"
)

// files gives published files, whole or in ranges. Directories are not listed.
func (s *Server) files(tree *publish.Tree, prefix string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		name := strings.TrimPrefix(r.URL.Path, prefix)
		f, st, err := tree.Open(name)
		if err != nil {
			s.seeFile(r, prefix, name, 0, err)
			return err
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, st.Size(), st.ModTime().UnixNano()))
		http.ServeContent(w, r, "", st.ModTime(), f)
		c := w.(*counter)
		if r.Method == http.MethodGet && c.code() < 300 {
			s.seeFile(r, prefix, name, c.bytes, nil)
			if c.status == http.StatusOK {
				s.o.Log.WithFields(map[string]any{"file": name, "from": remote(r).String(), "bytes": c.bytes, "of": st.Size()}).Info("HTTP: sent")
			}
		}
		return nil
	}
}

// seeFile notes what a node fetched: which stage that is, its group says.
func (s *Server) seeFile(r *http.Request, prefix, name string, n int64, err error) {
	seen := nodes.Seen{Addr: remote(r), Source: nodes.HTTP, Bytes: n, Stage: s.stageOf(r, prefix, name), Message: fmt.Sprintf("fetched %.200q", name)}
	mac, ok := s.o.Nodes.Who(seen.Addr)
	if !ok {
		return
	}
	if err != nil {
		seen.Error = fmt.Sprintf("%.200q: %v", name, err)
	} else if at := s.o.Nodes.Stage(mac); (seen.Stage.Before(at) || seen.Stage == bootstage.Image && at == seen.Stage) && at != bootstage.Rescue {
		seen.Stage = "" // an image is read all the time
	}
	if seen.Stage == bootstage.Image && err == nil {
		seen.State = bootstage.Begun // when it has all, the node says
	}
	s.o.Nodes.See(seen)
}

func (s *Server) stageOf(r *http.Request, prefix, name string) bootstage.Stage {
	switch prefix {
	case script.BinPath:
		return bootstage.Program
	case script.ImagesPath:
		return bootstage.Image
	}
	mac, ok := s.o.Nodes.Who(remote(r))
	if !ok {
		return ""
	}
	n, ok := s.o.Scripts.Node(mac)
	if !ok {
		return ""
	}
	g := s.o.Site.Groups[n.Group]
	switch {
	case name == g.Kernel:
		return bootstage.Kernel
	case slices.Contains(g.Initramfs, name):
		return bootstage.Initramfs
	}
	return ""
}

// counter knows what was answered.
type counter struct {
	http.ResponseWriter
	now    func() time.Time
	status int
	bytes  int64
}

func (c *counter) code() int {
	if c.status == 0 {
		return http.StatusOK
	}
	return c.status
}

// WriteHeader implements http.ResponseWriter.
func (c *counter) WriteHeader(code int) {
	if c.status == 0 {
		c.status = code
	}
	c.ResponseWriter.WriteHeader(code)
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// piece is what has to be read within slack: who reads more slowly is cut off. That is some 70 KB a second.
const piece = 4 << 20

// ReadFrom implements io.ReaderFrom, so that the kernel copies files.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	whole, ok := r.(*io.LimitedReader) // as http.ServeContent has it; the kernel takes a file in just one of these
	if !ok {
		n, err := io.Copy(c.ResponseWriter, r)
		c.bytes += n
		return n, err
	}
	var all int64
	for whole.N > 0 {
		// an error means a writer without deadlines, which is a test's
		_ = http.NewResponseController(c.ResponseWriter).SetWriteDeadline(c.now().Add(slack))
		part := &io.LimitedReader{R: whole.R, N: min(whole.N, piece)}
		n, err := io.Copy(c.ResponseWriter, part)
		all, whole.N, c.bytes = all+n, whole.N-n, c.bytes+n
		if err != nil || n == 0 {
			return all, err
		}
	}
	return all, nil
}

// Unwrap is for http.ResponseController.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
