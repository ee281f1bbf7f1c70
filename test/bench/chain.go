package main

import "time"

// chain measures a POST of a whole definition, loop → squashfs → overlay → container that runs /bin/true, until the answer.
func chain(s setting) ([]row, error) {
	def := wire{"name": "bench-chain", "command": "/bin/true", "state": "running", "mount": wire{"kind": "overlay", "overlay": wire{
		"lower": []any{wire{"kind": "attach", "attach": wire{"fs_type": "squashfs", "attach": wire{
			"kind": "loopback", "loopback": wire{"path": s.image, "base": "root"}}}}}}}}
	cs := []contestant{{"windlass", func() (time.Duration, error) { return raise(s.ours, def, s.ours.ended) }}}
	if s.forerunner != nil {
		cs = append(cs, contestant{"forerunner", func() (time.Duration, error) { return raise(s.forerunner, def, s.forerunner.pollEnded) }})
	}
	m, err := race(s.rounds, cs...)
	r := row{what: "POST loop → squashfs → overlay → running /bin/true, to the answer", against: "forerunner", target: "≤ 1.0", ours: m[0], n: s.rounds}
	if len(m) > 1 {
		r.other = m[1]
	}
	return []row{r}, err
}

// raise POSTs, then waits for the end and takes everything down; the POST counts.
func raise(a *api, def wire, ended func(int64) error) (time.Duration, error) {
	began := time.Now()
	o, err := a.post("/container", def)
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if err := ended(o.ID); err != nil {
		return 0, err
	}
	return took, a.remove("/container", o.ID)
}
