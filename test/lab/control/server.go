package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// Daemons are processes that can be stopped, killed and started again. Both calls come back when it has worked.
type Daemons interface {
	Signal(ctx context.Context, name string, sig syscall.Signal) error
	Start(ctx context.Context, name string) error
}

// Server answers the clients.
type Server struct {
	Info    Info
	Env     []string           // for programs, beside this process's own
	Daemons map[string]Daemons // but for those of Ceph
	Targets *servers.TGT
	Cluster func(ctx context.Context, name string) (*servers.Ceph, error) // starts the cluster when it does not run yet

	targets sync.Mutex // guards Targets, and iqns
	iqns    []string   // that there are
}

// programs are those that a test may run on the servers' side.
func programs() []string {
	return []string{"rbd", "ceph", "rados", "ceph-authtool", "tgtadm", "showmount", "rpcinfo", "ss", "truncate", "mkdir", "rm", "cp", "mv", "ln", "ls", "cat",
		"stat", "chmod", "chown", "dd", "cmp", "sha256sum", "mkfs.ext4", "mksquashfs", "sfdisk", "ip", "nft", "true", "false"}
}

// Handler gives the handler of all requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /run", s.run)
	mux.HandleFunc("POST /signal", s.signal)
	mux.HandleFunc("POST /start", s.start)
	mux.HandleFunc("PUT /file", s.put)
	mux.HandleFunc("GET /file", s.get)
	mux.HandleFunc("POST /cluster", s.cluster)
	mux.HandleFunc("POST /target", s.addTarget)
	mux.HandleFunc("DELETE /target", s.removeTarget)
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Info) })
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name := q.Get("name")
	if !slices.Contains(programs(), name) {
		http.Error(w, fmt.Sprintf("%q is no program that tests run here; see programs in test/lab/control", name), http.StatusForbidden)
		return
	}
	ceph, err := s.Cluster(r.Context(), q.Get("cluster"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	cmd := exec.CommandContext(r.Context(), name, q["arg"]...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.Info.Dir, slices.Concat(os.Environ(), s.Env, ceph.Env()), r.Body
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.Bytes(), Stderr: stderr.Bytes()})
}

func (s *Server) signal(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	sig := unix.SignalNum("SIG" + q.Get("signal"))
	if sig == 0 {
		http.Error(w, fmt.Sprintf("there is no signal %q; say STOP, CONT, TERM or KILL", q.Get("signal")), http.StatusBadRequest)
		return
	}
	s.daemon(w, r, func(d Daemons, name string) error { return d.Signal(r.Context(), name, sig) })
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	s.daemon(w, r, func(d Daemons, name string) error { return d.Start(r.Context(), name) })
}

// daemon gives an order to the server that the request names, such as tgt, osd, or, in another cluster than the first, three/mon.b.
func (s *Server) daemon(w http.ResponseWriter, r *http.Request, order func(d Daemons, name string) error) {
	name := r.URL.Query().Get("server")
	d := s.Daemons[name]
	if d == nil {
		cluster, daemon, ok := strings.Cut(name, "/")
		if !ok {
			cluster, daemon = "", name
		}
		ceph, err := s.Cluster(r.Context(), cluster)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		d, name = ceph, daemon
	}
	if err := order(d, name); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *Server) cluster(w http.ResponseWriter, r *http.Request) {
	ceph, err := s.Cluster(r.Context(), r.URL.Query().Get("name"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, Cluster{FSID: ceph.FSID(), V1: ceph.Monitors(false), V2: ceph.Monitors(true)})
}

func (s *Server) path(r *http.Request) string {
	p := r.URL.Query().Get("path")
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.Info.Dir, p)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	if err := write(s.path(r), r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func write(path string, body io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, s.path(r)) }

func (s *Server) addTarget(w http.ResponseWriter, r *http.Request) {
	s.targets.Lock()
	defer s.targets.Unlock()
	var target Target
	err := json.NewDecoder(r.Body).Decode(&target)
	if err == nil {
		err = s.Targets.Add(r.Context(), target)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.iqns = append(s.iqns, target.IQN)
}

func (s *Server) removeTarget(w http.ResponseWriter, r *http.Request) {
	s.targets.Lock()
	defer s.targets.Unlock()
	i := slices.Index(s.iqns, r.URL.Query().Get("iqn"))
	if i < 0 {
		return
	}
	if err := s.Targets.Remove(r.Context(), s.iqns[i]); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.iqns = slices.Delete(s.iqns, i, i+1)
}
