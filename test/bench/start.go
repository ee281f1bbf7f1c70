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
	crun, err := newBundle(s, "run", "/bin/true")
	if err != nil {
		return nil, err
	}
	cs := []contestant{
		{"windlass, created and deleted", func() (time.Duration, error) { return whole(s.ours, def, s.ours.ended) }},
		{"windlass, started again", func() (time.Duration, error) { return again(s.ours, kept.ID) }},
		{"crun run", func() (time.Duration, error) {
			return timed("crun", "--cgroup-manager=cgroupfs", "run", "-b", crun, "bench-start")
		}},
		{"systemd-nspawn", func() (time.Duration, error) {
			return timed("systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", s.rootfs, "/bin/true")
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
		cs = append(cs, contestant{"forerunner", func() (time.Duration, error) { return whole(s.forerunner, def, s.forerunner.pollEnded) }})
	}
	m, err := race(s.rounds, cs...)
	all := "create, start, end of /bin/true, delete"
	rows := []row{
		{all, cs[2].name, m[0], m[2], "≤ 0.6", s.rounds},
		{all, cs[3].name, m[0], m[3], "", s.rounds},
	}
	if len(m) > 4 {
		rows = append(rows, row{all, cs[4].name, m[0], m[4], "", s.rounds})
	}
	return append(rows, row{"start of a created container, end of /bin/true", cs[2].name, m[1], m[2], "≤ 0.6", s.rounds}), err
}

func bind(dir string) wire {
	return wire{"kind": "bind", "bind": wire{"path": dir, "base": "root"}}
}

// whole creates, waits and deletes; all of it counts.
func whole(a *api, def wire, ended func(int64) error) (time.Duration, error) {
	began := time.Now()
	o, err := a.post("/container", def)
	if err != nil {
		return 0, err
	}
	if err := ended(o.ID); err != nil {
		return 0, err
	}
	err = a.remove("/container", o.ID)
	return time.Since(began), err
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
