package main

import (
	"fmt"
	"net/http"
	osexec "os/exec"
	"time"
)

// exec measures a further /bin/true in a container that runs.
func exec(s setting) ([]row, error) {
	def := wire{"name": "bench-exec", "command": "/bin/sleep 1000", "state": "running", "mount": bind(s.rootfs), "stop_timeout": 0}
	o, err := s.ours.post("/container", def)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = s.ours.call(http.MethodDelete, fmt.Sprintf("/container?id=%d&force=true", o.ID), nil, nil)
	}()
	bundle, err := newBundle(s, "exec", "/bin/sleep", "1000")
	if err != nil {
		return nil, err
	}
	// Its output goes nowhere: the container would keep a pipe of ours open.
	if err := osexec.Command("crun", s.crun("run", "-d", "-b", bundle, "bench-exec")...).Run(); err != nil {
		return nil, fmt.Errorf("crun run -d: %w", err)
	}
	defer func() { _ = osexec.Command("crun", s.crun("delete", "-f", "bench-exec")...).Run() }()
	path := fmt.Sprintf("/container/%d/exec", o.ID)
	cs := []contestant{
		{"windlass, request", func() ([]time.Duration, error) { return lap(request(s.ours, path)) }},
		{"windlass exec", func() ([]time.Duration, error) {
			return lap(timed(s.cli[0], append(s.cli[1:len(s.cli):len(s.cli)], "exec", "bench-exec", "/bin/true")...))
		}},
		{"crun exec", func() ([]time.Duration, error) {
			return lap(timed("crun", s.crun("exec", "bench-exec", "/bin/true")...))
		}},
	}
	m, err := race(s.rounds, 1, cs...)
	return []row{
		{"exec of /bin/true, one request", cs[2].name, m[0][0], m[2][0], "≤ 0.3", s.rounds},
		{"exec of /bin/true, by the command line", cs[2].name, m[1][0], m[2][0], "", s.rounds},
	}, err
}

func request(a *api, path string) (time.Duration, error) {
	var result struct {
		ExitCode int    `json:"exit_code"`
		Stderr   string `json:"stderr"`
	}
	began := time.Now()
	err := a.call(http.MethodPost, path, wire{"command": []string{"/bin/true"}}, &result)
	took := time.Since(began)
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
	}
	return took, err
}
