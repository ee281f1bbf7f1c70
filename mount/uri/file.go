package uri

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/step"
)

// file is what is fetched, while it comes.
type file struct {
	body   *fetch.Body
	reader *bufio.Reader // of body
	format format
	report *progress
}

// open connects, and tells by the first bytes what it is.
func (d *Driver) open(ctx context.Context, p plan) (*file, error) {
	f := &file{report: &progress{}}
	err := step.Do(ctx, "uri.connect", func(ctx context.Context) error {
		var err error
		f.body, err = d.client.Open(ctx, p.src, fetch.Options{Limit: workLimit(p.size), Sealed: p.digest != "", Loose: p.digest == "", Progress: f.report.tell})
		if err != nil {
			return tooLarge(err, p)
		}
		f.reader = bufio.NewReaderSize(f.body, 256<<10)
		f.format, err = f.look(p)
		return err
	})
	if err != nil {
		if f.body != nil {
			_ = f.body.Close()
		}
		return nil, err
	}
	return f, nil
}

func (f *file) look(p plan) (format, error) {
	head, err := f.reader.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return format{}, err
	}
	found, err := chooseFormat(p.format, head)
	if err != nil {
		return format{}, fault.Hintf(fault.New(fault.KindOf(err), "read %s: %w", p.src, err), "%s", fault.HintOf(err))
	}
	return found, nil
}

// progress leads the words of the download to the step that runs.
type progress struct{ to func(done, total int64) }

func (p *progress) tell(done, total int64) {
	if p.to != nil {
		p.to(done, total)
	}
}

// during runs fn with the download's progress going to the step of ctx.
func (p *progress) during(ctx context.Context, fn func() error) error {
	p.to = func(done, total int64) { step.Progress(ctx, done, total) }
	defer func() { p.to = nil }()
	return fn()
}
