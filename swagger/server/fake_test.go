package server

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// fakeChain answers what a test wants; it is the chain of no node.
type fakeChain struct {
	mu      sync.Mutex
	err     error         // answered by everything
	hang    chan struct{} // changes wait for it, but for Unmount and what is to stop
	panics  bool
	mounts  []*models.Mount
	waits   func(ctx context.Context) (*models.Container, error)
	process *fakeProcess
	console *fakeLog
	feed    []*models.Event
	more    chan *models.Event
	since   *int64
	grace   *time.Duration
}

func (f *fakeChain) do(ctx context.Context) error {
	if f.panics {
		panic("a bug")
	}
	if f.hang != nil {
		select {
		case <-f.hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.err
}

func (f *fakeChain) Attachments(*int64, string) ([]*models.Attach, error) { return nil, f.err }

func (f *fakeChain) Attach(ctx context.Context, spec *models.Attach) (*models.Attach, error) {
	spec.ID = 1
	return spec, f.do(ctx)
}

func (f *fakeChain) Detach(ctx context.Context, id int64, _ bool) (*models.Attach, error) {
	return &models.Attach{ID: models.ID(id)}, f.do(ctx)
}

func (f *fakeChain) Mounts(*int64, string) ([]*models.Mount, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mounts, f.err
}

func (f *fakeChain) Mount(ctx context.Context, spec *models.Mount) (*models.Mount, error) {
	if err := f.do(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mounts = append(f.mounts, spec)
	spec.ID = models.ID(len(f.mounts))
	return spec, nil
}

func (f *fakeChain) Unmount(_ context.Context, id int64, _ bool) (*models.Mount, error) {
	return &models.Mount{ID: models.ID(id)}, f.err
}

func (f *fakeChain) Containers(*int64, *string, string) ([]*models.Container, error) {
	return nil, f.err
}

func (f *fakeChain) CreateContainer(ctx context.Context, spec *models.Container) (*models.Container, error) {
	spec.ID = 1
	return spec, f.do(ctx)
}

func (f *fakeChain) DeleteContainer(ctx context.Context, _ *int64, _ *string, _ bool) (*models.Container, error) {
	return &models.Container{}, f.do(ctx)
}

func (f *fakeChain) SetContainerState(ctx context.Context, _ *int64, _ *string, state string, grace *time.Duration) (*models.Container, error) {
	f.grace = grace
	if state != "running" {
		return &models.Container{}, f.err
	}
	return &models.Container{}, f.do(ctx)
}

func (f *fakeChain) WaitContainer(ctx context.Context, _ int64, _ string) (*models.Container, error) {
	return f.waits(ctx)
}

func (f *fakeChain) Exec(context.Context, int64, *models.ExecSpec) (container.Process, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.process, nil
}

func (f *fakeChain) OpenLog(context.Context, int64) (container.Log, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &logReader{fakeLog: f.console}, nil
}

func (f *fakeChain) Events(ctx context.Context, since *int64, follow bool) <-chan *models.Event {
	f.mu.Lock()
	f.since = since
	f.mu.Unlock()
	out := make(chan *models.Event)
	go func() {
		defer close(out)
		send := func(e *models.Event) bool {
			select {
			case out <- e:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for _, e := range f.feed {
			if (since != nil && e.ID > *since) && !send(e) {
				return
			}
		}
		for follow {
			select {
			case e := <-f.more:
				if !send(e) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (f *fakeChain) Counts() map[string]map[string]int {
	return map[string]map[string]int{"mount": {"ready": 3}}
}

func (f *fakeChain) Info() *models.Info {
	return &models.Info{Version: "test", LeftBehind: []*models.LeftBehind{{Pid: 7, What: "unmount /x"}}}
}

// fakeProcess echoes its input; it ends when its input does, or when it is told to, and says what it was told.
type fakeProcess struct {
	in       *io.PipeReader
	inW      *io.PipeWriter
	out, err *io.PipeReader
	outW     *io.PipeWriter
	errW     *io.PipeWriter
	ended    chan struct{}
	closed   chan struct{}
	once     sync.Once
	end      sync.Once
	exit     container.Exit
	sizes    chan [2]uint16
}

func newProcess(code int) *fakeProcess {
	p := &fakeProcess{ended: make(chan struct{}), closed: make(chan struct{}), exit: container.Exit{Code: code}, sizes: make(chan [2]uint16, 10)}
	p.in, p.inW = io.Pipe()
	p.out, p.outW = io.Pipe()
	p.err, p.errW = io.Pipe()
	return p
}

// echo runs it: error output first, then the input back, then the end.
func (p *fakeProcess) echo() *fakeProcess {
	go func() {
		io.WriteString(p.errW, "started\n")
		io.Copy(p.outW, p.in)
		p.finish()
	}()
	return p
}

// finish ends it, its outputs with it.
func (p *fakeProcess) finish() {
	p.outW.Close()
	p.errW.Close()
	p.end.Do(func() { close(p.ended) })
}

func (p *fakeProcess) Stdin() io.WriteCloser { return p.inW }
func (p *fakeProcess) Stdout() io.ReadCloser { return p.out }
func (p *fakeProcess) Stderr() io.ReadCloser { return p.err }

func (p *fakeProcess) Resize(rows, columns uint16) error {
	p.sizes <- [2]uint16{rows, columns}
	return nil
}

func (p *fakeProcess) Wait(ctx context.Context) (container.Exit, error) {
	select {
	case <-p.ended:
		return p.exit, nil
	case <-ctx.Done():
		return container.Exit{}, ctx.Err()
	}
}

func (p *fakeProcess) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.in.CloseWithError(io.ErrClosedPipe)
		p.finish()
		p.out.Close()
		p.err.Close()
	})
	return nil
}

// fakeLog is a log that grows until it is ended.
type fakeLog struct {
	mu    sync.Mutex
	data  []byte
	ended bool
	grown chan struct{}
}

func newLog(text string) *fakeLog { return &fakeLog{data: []byte(text), grown: make(chan struct{})} }

func (l *fakeLog) write(text string, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data, l.ended = append(l.data, text...), end
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *fakeLog) now() ([]byte, bool, chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.data), l.ended, l.grown
}

type logReader struct {
	*fakeLog
	offset int64
}

func (r *logReader) Read(p []byte) (int, error) {
	data, _, _ := r.now()
	if r.offset >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[r.offset:])
	r.offset += int64(n)
	return n, nil
}

func (r *logReader) Seek(offset int64, whence int) (int64, error) {
	data, _, _ := r.now()
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += int64(len(data))
	}
	r.offset = offset
	return offset, nil
}

func (r *logReader) Close() error { return nil }

func (r *logReader) Size() (int64, error) {
	data, _, _ := r.now()
	return int64(len(data)), nil
}

func (r *logReader) WaitMore(ctx context.Context, offset int64) error {
	for {
		data, ended, grown := r.now()
		if int64(len(data)) > offset {
			return nil
		}
		if ended {
			return io.EOF
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fault.New(fault.Timeout, "wait: %w", ctx.Err())
		}
	}
}
