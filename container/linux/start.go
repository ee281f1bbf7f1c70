package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/internal/unixsock"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Start starts the container. What has to be known to clean up is written down first; then the shim comes up while the cgroups are
// made, and gets its orders last. What Prepare has done is not done again.
func (r *Runtime) Start(ctx context.Context, id container.ID, spec *models.Container, root string) (st container.Status, err error) {
	s := r.early.take(id)
	defer func() {
		if s != nil {
			err = s.end(ctx, err)
		}
	}()
	cfg, err := r.shimConfig(ctx, id, spec, root)
	if err != nil {
		return container.Status{}, err
	}
	if s == nil {
		s = r.newStarter(id, root)
		s.begin(ctx)
	}
	s.cfg, s.limits = cfg, spec
	if <-s.begun; s.err != nil {
		return container.Status{}, s.err
	}
	if err := step.Do(ctx, "container.cgroup", s.groups); err != nil {
		return container.Status{}, err
	}
	if err := step.Do(ctx, "container.start", s.order); err != nil {
		return container.Status{}, err
	}
	go s.bury()
	return toStatus(s.status), nil
}

// prepareDir makes the directory and writes the record. The last words of an earlier run are taken away, and come back when this one
// does not come about.
func (s *starter) prepareDir(ctx context.Context) error {
	dir := s.r.dir(s.id)
	last := filepath.Join(dir, proto.StatusName)
	words, err := os.ReadFile(last)
	switch {
	case err == nil:
		s.undo.Push("keep the last words of the run before", func(ctx context.Context) error {
			return durable.WriteFile(ctx, last, words, 0o600)
		})
	case errors.Is(err, os.ErrNotExist):
		s.undo.Push("remove the directory", func(ctx context.Context) error { return os.RemoveAll(dir) })
	default:
		return fmt.Errorf("read the last words: %w", err)
	}
	return step.Do(ctx, "container.directory", func(ctx context.Context) error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the container's directory: %w", err)
		}
		data, err := json.Marshal(s.record)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(ctx, filepath.Join(dir, proto.ConfigName), data, 0o600); err != nil {
			return err
		}
		if words == nil {
			return nil
		}
		return durable.Remove(ctx, last)
	})
}

// starter is one start under way.
type starter struct {
	r      *Runtime
	id     container.ID
	record proto.Record
	begun  chan struct{} // closed when begin has ended; err, undo, conn and proc are its until then
	err    error
	undo   undo.Stack
	unlock func()
	cfg    *proto.Config
	limits *models.Container
	conn   *unixsock.Conn
	proc   *os.Process
	status *proto.Status
}

// spawn starts the shim in a cgroup of the shims, with a socket to listen at and nothing else.
func (s *starter) spawn(context.Context) error {
	socket := filepath.Join(s.r.dir(s.id), proto.SocketName)
	listener, err := unixsock.Listen(socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	if s.conn, err = unixsock.Dial(socket); err != nil { // first in the queue, so that the shim hears us first
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	output, err := os.OpenFile(filepath.Join(s.r.dir(s.id), proto.OutputName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	defer output.Close()
	s.r.starting.Lock()
	defer s.r.starting.Unlock()
	leaf, err := s.r.openShims()
	if err != nil {
		return err
	}
	defer leaf.Close()
	s.proc, err = os.StartProcess(s.r.cfg.Shim, []string{"windlass-shim", s.r.cfg.RunDir.Instance(), strconv.FormatInt(s.record.ID, 10)}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1", "GOTRACEBACK=single"}, Files: []*os.File{null, output, output, listener},
		Sys: &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(leaf.Fd())},
	})
	if err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	return nil
}

// openShims makes the cgroup of the shims. The caller holds starting.
func (r *Runtime) openShims() (*os.File, error) {
	shims := r.shims().Dir
	if err := os.MkdirAll(shims, 0o755); err != nil {
		return nil, fmt.Errorf("make the cgroup of the shims: %w", err)
	}
	return os.OpenFile(shims, unix.O_PATH|unix.O_DIRECTORY, 0)
}

func (s *starter) groups(context.Context) error {
	if err := s.cfg.Cgroup.Create(limits(s.limits)); err != nil {
		return err
	}
	if s.cfg.UserNS {
		return s.cfg.Cgroup.Chown(int(s.cfg.IDBase), int(s.cfg.IDBase))
	}
	return nil
}

// order tells the shim what to start and waits for its answer.
func (s *starter) order(ctx context.Context) error {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply proto.Reply
	err := s.conn.Send(proto.Request{Version: proto.Version, Op: proto.OpStart, Config: s.cfg})
	if err == nil {
		_, err = s.conn.Receive(&reply)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("start the container: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("talk to the container's shim: %w%s", err, s.crash())
	case reply.Error != nil:
		return reply.Error.Unpack()
	case reply.Status == nil:
		return errors.New("the container's shim answered nothing")
	}
	s.status = reply.Status
	return nil
}

// crash gives the end of what the shim wrote, which is nothing but the report of a crash.
func (s *starter) crash() string {
	b, err := os.ReadFile(filepath.Join(s.r.dir(s.id), proto.OutputName))
	if err != nil || len(b) == 0 {
		return ""
	}
	return ": " + string(b[:min(len(b), 500)])
}

// kill ends a shim whose container did not come about.
func (s *starter) kill(context.Context) error {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.proc == nil {
		return nil
	}
	if err := s.proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the shim: %w", err)
	}
	_, err := s.proc.Wait()
	return err
}

// bury waits for the shim as long as this daemon is its parent.
func (s *starter) bury() { _, _ = s.proc.Wait() }
