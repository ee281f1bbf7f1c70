//go:build lab

package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// goneTimeout is how long it may take until everything of a container has gone after it was deleted, when the storage answers.
const goneTimeout = 20 * time.Second

// delete sends a DELETE and gives the status, the answer and how long that took.
func (w *world) delete(path string) (int, string, time.Duration) {
	w.t.Helper()
	var answer json.RawMessage
	began := time.Now()
	status, err := w.d.Call(w.t.Context(), http.MethodDelete, path, nil, &answer)
	took := time.Since(began)
	if err != nil {
		w.t.Fatalf("DELETE %s: %v\n%s", path, err, w.d.Log())
	}
	w.t.Logf("DELETE %s: %d after %v", path, status, took.Round(time.Millisecond))
	return status, string(answer), took
}

// remove deletes a container by force, and waits until all of it has gone. On a machine with much to do the answer may be that it goes on.
func (w *world) remove(c *models.Container) {
	w.t.Helper()
	status, answer, _ := w.delete(fmt.Sprintf("/container?force=true&id=%d", c.ID))
	if status != http.StatusOK && status != http.StatusGatewayTimeout {
		w.t.Errorf("DELETE: %d %s", status, answer)
	}
	w.emptied(goneTimeout)
}

// emptied waits until nothing is listed, and holds that nothing is left.
func (w *world) emptied(limit time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	if err := w.d.WaitEmpty(ctx); err != nil {
		o, _ := w.d.List(w.t.Context())
		w.t.Fatalf("not gone within %v: %s%s", limit, o, hanging())
	}
	w.untouched()
}

// untouched holds that nothing is listed, nothing is on the node, and no server has anybody of it.
func (w *world) untouched() {
	w.t.Helper()
	daemon.Untouched(w.t, w.node, w.d)
	within(w.t, answerTimeout, "the connections to the servers end", func() bool { return len(connections(w.t)) == 0 })
}

// clear deletes all that is listed, without force, and holds that nothing is left.
func (w *world) clear() {
	w.t.Helper()
	o, err := w.d.List(w.t.Context())
	must(w.t, err)
	for _, c := range o.Containers {
		w.d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/container?force=true&id=%d", c.ID), nil, nil)
	}
	w.held("mount")
	w.held("attach")
	w.emptied(goneTimeout)
}

// held deletes what a client holds of one kind: what lies on it and below it goes by itself.
func (w *world) held(kind string) {
	w.t.Helper()
	var list []struct {
		ID      models.ID
		Holders []string
	}
	w.d.Want(http.StatusOK, http.MethodGet, "/"+kind, nil, &list)
	for _, o := range list {
		if slices.Contains(o.Holders, "client") {
			w.d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/%s?id=%d", kind, o.ID), nil, nil)
		}
	}
}

// sweep deletes by force what a test that failed has left.
func (w *world) sweep(ctx context.Context) {
	o, err := w.d.List(ctx)
	if err != nil {
		w.t.Error(err)
	}
	if o.Empty() {
		return
	}
	if !w.t.Failed() {
		w.t.Errorf("still listed in the end: %s", o)
	}
	each := func(kind string, id models.ID) {
		_, _ = w.d.Call(ctx, http.MethodDelete, fmt.Sprintf("/%s?force=true&id=%d", kind, id), nil, nil)
	}
	for _, c := range o.Containers {
		each("container", c.ID)
	}
	for _, m := range o.Mounts {
		each("mount", m.ID)
	}
	for _, a := range o.Attachments {
		each("attach", a.ID)
	}
	if err := w.d.WaitEmpty(ctx); err != nil {
		w.t.Error(err)
	}
}
