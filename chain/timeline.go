package chain

import (
	"sync"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// StepFunc learns of every step that has ended, for metrics.
type StepFunc func(stage string, d time.Duration, err error)

// keepSteps bounds a timeline. The first half stays, the second half holds the latest: how an object came to be is never pushed out by
// how often it was tried to take it down.
const keepSteps = 64

// timeline keeps an object's steps; it is a step.Recorder.
type timeline struct {
	mu     sync.Mutex
	steps  []entry
	next   int
	onStep StepFunc
}

type entry struct {
	token int
	step  step.Step
	ended bool
}

// Begin is step.Recorder's.
func (t *timeline) Begin(stage string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	if len(t.steps) >= keepSteps {
		t.steps = append(t.steps[:keepSteps/2], t.steps[keepSteps/2+1:]...)
	}
	t.steps = append(t.steps, entry{token: t.next, step: step.Step{Stage: stage, Started: time.Now()}})
	return t.next
}

// Progress is step.Recorder's.
func (t *timeline) Progress(token int, bytes, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.find(token); e != nil {
		e.step.Bytes, e.step.Total = bytes, total
	}
}

// End is step.Recorder's.
func (t *timeline) End(token int, err error, hint string) {
	t.mu.Lock()
	e := t.find(token)
	if e == nil { // pushed out meanwhile
		t.mu.Unlock()
		return
	}
	e.ended, e.step.Err, e.step.Hint = true, err, hint
	e.step.Duration = time.Since(e.step.Started)
	done := e.step
	t.mu.Unlock()
	if t.onStep != nil {
		t.onStep(done.Stage, done.Duration, err)
	}
}

func (t *timeline) find(token int) *entry {
	for i := len(t.steps) - 1; i >= 0; i-- {
		if t.steps[i].token == token {
			return &t.steps[i]
		}
	}
	return nil
}

// wire gives the steps as the API shows them, oldest first.
func (t *timeline) wire() []*models.Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	steps := make([]*models.Step, 0, len(t.steps))
	for i := range t.steps {
		steps = append(steps, t.steps[i].wire())
	}
	return steps
}

// load puts back what a record kept.
func (t *timeline) load(steps []*models.Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range steps {
		t.next++
		d := time.Duration(s.DurationMs * float64(time.Millisecond))
		e := entry{token: t.next, ended: true, step: step.Step{
			Stage: s.Stage, Started: time.Time(s.Started), Duration: d, Bytes: s.Bytes, Total: s.TotalBytes, Hint: s.Hint}}
		switch {
		case s.Error != "":
			e.step.Err = remembered(s.Error)
		case s.Running:
			e.step.Err = remembered("the daemon ended meanwhile")
		}
		t.steps = append(t.steps, e)
	}
}

// remembered is an error of which only the text is left.
type remembered string

func (r remembered) Error() string { return string(r) }

func (e *entry) wire() *models.Step {
	d := e.step.Duration
	if !e.ended {
		d = time.Since(e.step.Started)
	}
	s := &models.Step{
		Stage: e.step.Stage, Started: strfmt.DateTime(e.step.Started.UTC()), DurationMs: float64(d.Microseconds()) / 1000,
		Bytes: e.step.Bytes, TotalBytes: e.step.Total, Running: !e.ended, Hint: e.step.Hint,
	}
	if e.step.Err != nil {
		s.Error = e.step.Err.Error()
	}
	return s
}
