package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// allowed are the tests that may be skipped, with the reason why.
type allowed []struct{ pkg, test, why string }

// readAllowed reads lines of `package test reason…`; package and test are patterns as in path.Match, `#` starts a comment.
func readAllowed(file string) (allowed, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var a allowed
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want `package test reason`", file, n+1)
		}
		_, err1 := path.Match(fields[0], "")
		_, err2 := path.Match(fields[1], "")
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
		}
		a = append(a, struct{ pkg, test, why string }{fields[0], fields[1], strings.Join(fields[2:], " ")})
	}
	return a, nil
}

// reason says why a test may be skipped; false when it may not.
func (a allowed) reason(pkg, test string) (string, bool) {
	for _, e := range a {
		p, _ := path.Match(e.pkg, pkg)
		t, _ := path.Match(e.test, test)
		if p && t {
			return e.why, true
		}
	}
	return "", false
}
