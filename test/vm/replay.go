package vm

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// event is what test2json writes; see `go doc cmd/test2json`.
type event struct{ Action, Test, Output string }

// Run lets the guest run the tests of one case, the next in the order of the configuration. They are subtests of t while they run.
func (m *Machine) Run(t *testing.T, c Case) {
	m.await(t, "guest: ready "+c.Name, silencePatience)
	m.tell(t, "go")
	conv := exec.Command("go", "tool", "test2json", "-t")
	in, err := conv.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := conv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := conv.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	code := ""
	go func() {
		defer in.Close()
		for {
			line, err := m.next(silencePatience)
			rest, last := strings.CutPrefix(line, "guest: end "+c.Name+" ")
			if err != nil || last {
				code = strings.TrimSpace(rest)
				ended <- err
				return
			}
			_, _ = io.WriteString(in, line)
		}
	}()
	r := &replay{events: json.NewDecoder(out)}
	r.follow(t, "")
	_, _ = io.Copy(io.Discard, out)
	if err := conv.Wait(); err != nil {
		t.Errorf("test2json: %v", err)
	}
	switch err := <-ended; {
	case err != nil:
		t.Fatal(err)
	case code != "0" && !t.Failed():
		t.Errorf("the test program ended with code %s", code)
	case r.tests == 0 && !t.Failed():
		t.Errorf("%s has no test that -run matches", c.Pkg)
	}
}

// replay makes subtests of events as they come.
type replay struct {
	events *json.Decoder
	tests  int // that have begun
	over   bool
}

// follow takes events up to the end of the test called name; the empty name is that of the package.
func (r *replay) follow(t *testing.T, name string) {
	prefix := name + "/"
	if name == "" {
		prefix = ""
	}
	for !r.over {
		var e event
		if err := r.events.Decode(&e); err != nil || e.Test == "" && ended(e) {
			r.over = true
			if name != "" {
				t.Errorf("it had not ended when all did")
			} else if e.Action == "fail" && !t.Failed() {
				t.Error("failed")
			}
			return
		}
		switch {
		case e.Action == "run" && e.Test != name:
			r.tests++
			t.Run(strings.TrimPrefix(e.Test, prefix), func(t *testing.T) { r.follow(t, e.Test) })
		case e.Action == "output":
			if text := strings.TrimRight(e.Output, "\n"); !framing(text) {
				t.Log(text)
			}
		case e.Action == "pause":
			t.Error("it runs beside others (t.Parallel), so what the guest says cannot be told apart")
		case e.Test == name && e.Action == "fail":
			t.Fail()
			return
		case e.Test == name && e.Action == "skip":
			t.SkipNow()
		case e.Test == name && e.Action == "pass":
			return
		}
	}
}

func ended(e event) bool { return e.Action == "pass" || e.Action == "fail" || e.Action == "skip" }

// framing says that a line tells only what the event tells already.
func framing(line string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") || line == "" || line == "PASS" || line == "FAIL"
}
