package main

import "time"

// chain measures a whole definition, loop → squashfs → overlay → container that runs /bin/true, from the POST to two points: the
// answer, and when the client knows that the program has ended. The first alone would favour who answers before there is a program.
func chain(s setting) ([]row, error) {
	def := wire{"name": "bench-chain", "command": "/bin/true", "state": "running", "mount": wire{"kind": "overlay", "overlay": wire{
		"lower": []any{wire{"kind": "attach", "attach": wire{"fs_type": "squashfs", "attach": wire{
			"kind": "loopback", "loopback": wire{"path": s.image, "base": "root"}}}}}}}}
	cs := []contestant{{"windlass", func() ([]time.Duration, error) { return raise(s.ours, def, s.ours.ended) }}}
	if s.forerunner != nil {
		cs = append(cs, contestant{"forerunner", func() ([]time.Duration, error) { return raise(s.forerunner, def, s.forerunner.pollEnded) }})
	}
	m, err := race(s.rounds, 3, cs...)
	job := "POST loop → squashfs → overlay → running /bin/true, "
	rows := []row{
		{what: job + "to the answer", target: "≤ 1.0"},
		{what: job + "to its end"},
		{what: job + "to its end, and DELETE"},
	}
	for i := range rows {
		rows[i].against, rows[i].n, rows[i].ours = "forerunner", s.rounds, m[0][i]
		if len(m) > 1 {
			rows[i].other = m[1][i]
		}
	}
	return rows, err
}

// raise POSTs, waits for the end and takes everything down.
func raise(a *api, def wire, ended func(int64) error) ([]time.Duration, error) {
	began := time.Now()
	o, err := a.post("/container", def)
	answered := time.Since(began)
	if err != nil {
		return nil, err
	}
	if err := ended(o.ID); err != nil {
		return nil, err
	}
	over := time.Since(began)
	err = a.remove("/container", o.ID)
	return []time.Duration{answered, over, time.Since(began)}, err
}
