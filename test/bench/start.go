package main

import (
	"fmt"
	"net/http"
	osexec "os/exec"
	"time"
)

// start measures from the start of a container on a root that is there to the end of its /bin/true.
func start(s setting) ([]row, error) {
	root, err := s.ours.post("/mount", bind(s.rootfs))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.ours.remove("/mount", root.ID) }()
	def := wire{"name": "bench-start", "command": "/bin/true", "state": "running", "mount": wire{"id": root.ID}}
	kept, err := s.ours.post("/container", wire{"name": "bench-again", "command": "/bin/true", "mount": wire{"id": root.ID}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.ours.remove("/container", kept.ID) }()
	bundle, err := newBundle(s, "run", "/bin/true")
	if err != nil {
		return nil, err
	}
	cs := []contestant{
		{"windlass, created and deleted", func() ([]time.Duration, error) { return raise(s.ours, def, s.ours.ended) }},
		{"windlass, started again", func() ([]time.Duration, error) { return lap(again(s.ours, kept.ID)) }},
		{"crun run", func() ([]time.Duration, error) {
			return lap(timed("crun", s.crun("run", "-b", bundle, "bench-start")...))
		}},
		{"systemd-nspawn", func() ([]time.Duration, error) {
			return lap(timed("systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", s.rootfs, "/bin/true"))
		}},
	}
	if s.forerunner != nil {
		base, err := s.forerunner.post("/mount", bind(s.rootfs))
		if err != nil {
			return nil, fmt.Errorf("forerunner: %w", err)
		}
		defer func() {
			_ = s.forerunner.call(http.MethodDelete, fmt.Sprintf("/mount?id=%d&force=true", base.ID), nil, nil)
		}()
		def := wire{"name": "bench-start", "command": "/bin/true", "state": "running", "mount": wire{"id": base.ID}}
		cs = append(cs, contestant{"forerunner", func() ([]time.Duration, error) { return raise(s.forerunner, def, s.forerunner.pollEnded) }})
	}
	m, err := race(s.rounds, 3, cs...)
	crun, nspawn, all := m[2][0], m[3][0], "create, start, end of /bin/true, delete"
	rows := []row{
		{"start of a created container, to the end of /bin/true", cs[2].name, m[1][0], crun, "≤ 0.6", s.rounds},
		{"create, start, end of /bin/true", cs[2].name, m[0][1], crun, "≤ 0.6", s.rounds},
		{all, cs[2].name, m[0][2], crun, "", s.rounds},
		{all, cs[3].name, m[0][2], nspawn, "", s.rounds},
	}
	if len(m) > 4 {
		rows = append(rows, row{all, cs[4].name, m[0][2], m[4][2], "", s.rounds})
	}
	return rows, err
}

func bind(dir string) wire {
	return wire{"kind": "bind", "bind": wire{"path": dir, "base": "root"}}
}

// again starts a container that is there and waits for its end.
func again(a *api, id int64) (time.Duration, error) {
	began := time.Now()
	if err := a.call(http.MethodPatch, fmt.Sprintf("/container?id=%d&state=running", id), nil, nil); err != nil {
		return 0, err
	}
	err := a.ended(id)
	return time.Since(began), err
}

// timed runs a command.
func timed(name string, args ...string) (time.Duration, error) {
	began := time.Now()
	out, err := osexec.Command(name, args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return time.Since(began), nil
}
