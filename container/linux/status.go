package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/unixsock"
)

// answerWait bounds how long a shim may take to answer what it knows.
const answerWait = 5 * time.Second

// errNoShim says that no shim lives.
var errNoShim = errors.New("the container has no shim")

// dial connects to the shim of id; errNoShim when there is none.
func (r *Runtime) dial(id container.ID) (*unixsock.Conn, error) {
	conn, err := unixsock.Dial(filepath.Join(r.dir(id), proto.SocketName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, errNoShim
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "reach the shim of container %d: %w", id, err)
	}
	return conn, nil
}

// ask sends one request and reads one reply. A connection that breaks off means that the shim has gone: errNoShim.
func (r *Runtime) ask(ctx context.Context, id container.ID, req proto.Request) (*proto.Reply, error) {
	conn, err := r.dial(id)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerWait)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req.Version = proto.Version
	var reply proto.Reply
	err = conn.Send(req)
	if err == nil {
		_, err = conn.Receive(&reply)
	}
	switch {
	case err == nil:
		return &reply, reply.Error.Unpack()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.New(fault.Unavailable, "the shim of container %d does not answer: %w", id, err)
	}
	return nil, errNoShim
}

// Status asks what there is of id.
func (r *Runtime) Status(ctx context.Context, id container.ID) (container.Status, error) {
	st, err := r.asked(ctx, id)
	if err != errNoShim {
		return st, err
	}
	defer r.locks.lock(id)() // a start or a removal under way looks like a loss
	return r.probe(ctx, id)
}

// asked is the status as the shim or its last words tell it; errNoShim when neither does.
func (r *Runtime) asked(ctx context.Context, id container.ID) (container.Status, error) {
	reply, err := r.ask(ctx, id, proto.Request{Op: proto.OpStatus})
	if err == nil && reply.Status != nil {
		return toStatus(reply.Status), nil
	}
	if err != nil && err != errNoShim {
		return container.Status{}, err
	}
	if last, err := r.lastWords(id); err != nil || last != nil {
		return toStatus(last), err
	}
	return container.Status{}, errNoShim
}

// probe is Status for one who holds the lock: where nobody answers, the shim is lost, and that is settled here.
func (r *Runtime) probe(ctx context.Context, id container.ID) (container.Status, error) {
	st, err := r.asked(ctx, id)
	if err != errNoShim {
		return st, err
	}
	_, derr := os.Stat(r.dir(id))
	if errors.Is(derr, fs.ErrNotExist) && !r.group(id).Exists() {
		return container.Status{State: container.Absent}, nil
	}
	if derr != nil && !errors.Is(derr, fs.ErrNotExist) {
		return container.Status{}, fmt.Errorf("look at container %d: %w", id, derr)
	}
	return r.settle(ctx, id)
}

// lastWords reads what the shim left; nil when there is nothing.
func (r *Runtime) lastWords(id container.ID) (*proto.Status, error) {
	data, err := os.ReadFile(filepath.Join(r.dir(id), proto.StatusName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last words of container %d: %w", id, err)
	}
	st := &proto.Status{}
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fault.New(fault.Corrupt, "read the last words of container %d: %w", id, err)
	}
	return st, nil
}

// sealEnd makes sure that the end of an earlier run is written down before anything of it is touched. A shim that could not write its last
// words, as on a full disk, is still there to tell them: they are written for it, and it goes.
func (r *Runtime) sealEnd(ctx context.Context, id container.ID, end container.Status) error {
	words, err := r.lastWords(id)
	if err != nil || words != nil {
		return err
	}
	last := &proto.Status{State: proto.Exited, ExitCode: end.ExitCode, ExitSignal: end.ExitSignal, OOMKilled: end.OOMKilled,
		Error: end.Error, Started: end.Started, Finished: end.Finished}
	if err := r.writeLast(ctx, id, last); err != nil {
		return fmt.Errorf("write down how container %d ended: %w", id, err)
	}
	return r.shimGone(ctx, id)
}

func (r *Runtime) writeLast(ctx context.Context, id container.ID, last *proto.Status) error {
	data, err := json.Marshal(last)
	if err != nil {
		return err
	}
	return durable.WriteFile(ctx, filepath.Join(r.dir(id), proto.StatusName), data, 0o600)
}

// settle ends what a lost shim has left running, and writes the last words in its place.
func (r *Runtime) settle(ctx context.Context, id container.ID) (container.Status, error) {
	last := &proto.Status{State: proto.Exited, ExitCode: 128 + int(unix.SIGKILL), ExitSignal: "SIGKILL",
		Error: "its shim was killed, so the container was ended", Finished: time.Now().UTC()}
	err := step.Do(ctx, "container.settle", func(ctx context.Context) error {
		group := r.recorded(id)
		last.OOMKilled = group.OOMKills() > 0
		wait, cancel := context.WithTimeout(ctx, killWait)
		defer cancel()
		if err := errors.Join(group.Kill(), group.WaitEmpty(wait)); err != nil {
			return fmt.Errorf("end container %d, whose shim was killed: %w", id, err)
		}
		if err := os.MkdirAll(r.dir(id), 0o700); err != nil {
			return err
		}
		return r.writeLast(ctx, id, last)
	})
	return toStatus(last), err
}

// recorded is the cgroup that the container was started in; the configuration may have changed since.
func (r *Runtime) recorded(id container.ID) cgroup.Group {
	data, err := os.ReadFile(filepath.Join(r.dir(id), proto.ConfigName))
	var rec proto.Record
	if err == nil && json.Unmarshal(data, &rec) == nil && rec.Cgroup.Dir != "" {
		return rec.Cgroup
	}
	return r.group(id)
}

func toStatus(st *proto.Status) container.Status {
	if st == nil {
		return container.Status{}
	}
	return container.Status{State: container.State(st.State), PID: st.PID, Ready: st.Ready, ExitCode: st.ExitCode, ExitSignal: st.ExitSignal,
		OOMKilled: st.OOMKilled, Error: st.Error, Started: st.Started, Finished: st.Finished}
}
