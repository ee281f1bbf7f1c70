package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// BasePath is where the API lies.
const BasePath = "/imageapi/v1"

// Call sends a request and decodes the answer into out, which may be nil. body is sent as JSON, as it is when it is a string, or not at
// all when it is nil. An error is one of the transport, such as a daemon that died; a status of 400 and above is none.
func (d *Daemon) Call(ctx context.Context, method, path string, body, out any) (int, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = bytes.NewReader([]byte(b))
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://windlass"+BasePath+path, r)
	if err != nil {
		return 0, err
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return resp.StatusCode, fmt.Errorf("%s %s: %d: %q: %w", method, path, resp.StatusCode, data, err)
	}
	return resp.StatusCode, nil
}

// Want is Call that fails the test when the status is another.
func (d *Daemon) Want(status int, method, path string, body, out any) {
	d.t.Helper()
	var raw json.RawMessage
	got, err := d.Call(d.t.Context(), method, path, body, &raw)
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", method, path, err, d.Log())
	}
	if got != status {
		d.t.Fatalf("%s %s: %d %s, want %d", method, path, got, raw, status)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			d.t.Fatalf("%s %s: %s: %v", method, path, raw, err)
		}
	}
}

// Objects is everything that a daemon lists.
type Objects struct {
	Attachments []*models.Attach
	Mounts      []*models.Mount
	Containers  []*models.Container
}

// List asks for everything.
func (d *Daemon) List(ctx context.Context) (o Objects, err error) {
	if _, err = d.Call(ctx, http.MethodGet, "/attach", nil, &o.Attachments); err != nil {
		return o, err
	}
	if _, err = d.Call(ctx, http.MethodGet, "/mount", nil, &o.Mounts); err != nil {
		return o, err
	}
	_, err = d.Call(ctx, http.MethodGet, "/container", nil, &o.Containers)
	return o, err
}

// Empty reports whether there is nothing.
func (o Objects) Empty() bool { return len(o.Attachments)+len(o.Mounts)+len(o.Containers) == 0 }

// String lists the objects with their states.
func (o Objects) String() string {
	s := ""
	for _, a := range o.Attachments {
		s += fmt.Sprintf("attach %d %s %s; ", a.ID, a.State, a.Error)
	}
	for _, m := range o.Mounts {
		s += fmt.Sprintf("mount %d %s %s; ", m.ID, m.State, m.Error)
	}
	for _, c := range o.Containers {
		s += fmt.Sprintf("container %d %s %s; ", c.ID, c.State, c.Error)
	}
	return s
}

// Text fetches what is not JSON, such as a log.
func (d *Daemon) Text(ctx context.Context, path string) (string, error) {
	status, text, err := d.get(ctx, BasePath+path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: %d %s", path, status, text)
	}
	return text, err
}

// get fetches what lies at a path, which is taken from the root.
func (d *Daemon) get(ctx context.Context, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://windlass"+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// Events fetches the events that are kept.
func (d *Daemon) Events(ctx context.Context, events *[]*models.Event) {
	d.t.Helper()
	text, err := d.Text(ctx, "/event?since=0&follow=false")
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(line, "data:")
		if !ok {
			continue
		}
		var e models.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			d.t.Fatalf("event %q: %v", line, err)
		}
		*events = append(*events, &e)
	}
}

// Metrics fetches what Prometheus would.
func (d *Daemon) Metrics(ctx context.Context) (string, error) {
	_, text, err := d.get(ctx, "/metrics")
	return text, err
}

// CloseIdle closes the connections that no request uses.
func (d *Daemon) CloseIdle() { d.http.CloseIdleConnections() }
