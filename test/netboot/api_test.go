//go:build guest

package netboot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// found is what the tests look at in a container.
type found struct {
	ID    int64
	PID   int64
	Name  string
	State string
	Ready bool
}

// containers asks the machine for its containers.
func (m *machine) containers() (all []found, err error) {
	text, code, err := m.send(http.MethodGet, "/container", "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d: %s", code, text)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &all)
	}
	return all, err
}

// send asks the API of the machine.
func (m *machine) send(method, path, body string) (answer string, code int, err error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.api+path, strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), resp.StatusCode, err
}

// only gives the container of the machine, which has one.
func (m *machine) only() found {
	m.t.Helper()
	all, err := m.containers()
	if err != nil || len(all) != 1 {
		m.t.Fatalf("one container is expected: %+v, %v", all, err)
	}
	return all[0]
}

// orders asks the API of the machine and expects an answer with a status.
func (m *machine) orders(method, path, body string, want int) (answer string) {
	m.t.Helper()
	text, code, err := m.send(method, path, body)
	if err != nil || code != want {
		m.t.Fatalf("%s %s: %d, %v: %s", method, path, code, err, text)
	}
	return text
}

// exec has a shell in the container run a line, and gives what that says.
func (m *machine) exec(line string) string {
	m.t.Helper()
	body, err := json.Marshal(map[string]any{"command": []string{"/bin/sh", "-c", line}})
	if err != nil {
		m.t.Fatal(err)
	}
	return m.orders(http.MethodPost, fmt.Sprintf("/container/%d/exec", m.only().ID), string(body), http.StatusOK)
}
