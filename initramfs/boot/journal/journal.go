package journal

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Journal takes what there is to tell. It is safe for concurrent use.
type Journal struct {
	// Uptime is how long the node has been up.
	Uptime func() time.Duration

	mu      sync.Mutex
	outs    []io.Writer
	reports *Reporter
}

// New tells on the outs, of which none may block.
func New(outs ...io.Writer) *Journal { return &Journal{Uptime: Uptime, outs: outs} }

// Uptime is how long the kernel has been up.
func Uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Also tells on out, too, from now on.
func (j *Journal) Also(out io.Writer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outs = append(j.outs, out)
}

// Report gives stages to r from now on.
func (j *Journal) Report(r *Reporter) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.reports = r
}

// Say tells a line: "[    3.214] windlass: network: eth0 has a link".
func (j *Journal) Say(stage bootstage.Stage, format string, args ...any) {
	j.line(j.Uptime(), string(stage)+": "+fmt.Sprintf(format, args...))
}

func (j *Journal) line(at time.Duration, text string) {
	line := fmt.Appendf(nil, "[%8.3f] windlass: %s\n", at.Seconds(), printable(text))
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, out := range j.outs {
		_, _ = out.Write(line) // there is nobody to tell
	}
}

// printable makes one line that does nothing to a terminal: names come from DHCP servers and the like.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// Explain gives the text of an error with what can be done about it.
func Explain(err error) string {
	text := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		text += ": " + hint
	}
	return text
}

// Stage is a stage that is under way.
type Stage struct {
	j     *Journal
	name  bootstage.Stage
	began time.Duration
}

// Begin begins a stage. It is reported; on the console it shows when it has something to say.
func (j *Journal) Begin(name bootstage.Stage) *Stage { return j.BeginWith(name, "") }

// BeginWith begins a stage and reports the text along with it.
func (j *Journal) BeginWith(name bootstage.Stage, text string) *Stage {
	s := &Stage{j: j, name: name, began: j.Uptime()}
	j.report(s, bootstage.Begun, text)
	return s
}

// Say tells a line of the stage.
func (s *Stage) Say(format string, args ...any) { s.j.Say(s.name, format, args...) }

// Done ends it well.
func (s *Stage) Done(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.Say("%s (%s)", text, seconds(s.j.Uptime()-s.began))
	s.j.report(s, bootstage.Done, text)
}

// Failed tells that it failed; it may be tried again, and end well yet.
func (s *Stage) Failed(err error) {
	text := Explain(err)
	s.Say("failed: %s", text)
	s.j.report(s, bootstage.Failed, text)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func (j *Journal) report(s *Stage, state bootstage.State, text string) {
	j.mu.Lock()
	r := j.reports
	j.mu.Unlock()
	if r != nil {
		now := j.Uptime()
		r.add(message{Stage: s.name, State: state, Uptime: now.Milliseconds(), Took: (now - s.began).Milliseconds(), text: printable(text)})
	}
}
