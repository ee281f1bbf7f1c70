package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// goneTimeout bounds how long a deletion may take, until what lies below has gone as well.
const goneTimeout = 20 * time.Second

// Main is the body of TestMain: it runs the tests and removes what Build made.
func Main(m *testing.M) {
	code := m.Run()
	Clean()
	os.Exit(code)
}

// Start gives a node with a daemon on it.
func Start(t testing.TB) (*Node, *Daemon) {
	t.Helper()
	n := NewNode(t)
	return n, n.Start(Options{})
}

// Refused sends a request that must be refused, and gives the status and the error, which has a message.
func Refused(t testing.TB, d *Daemon, method, path string, body any) (int, models.Error) {
	t.Helper()
	var e models.Error
	status, err := d.Call(t.Context(), method, path, body, &e)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
	if status < 400 || e.Message == nil {
		t.Fatalf("%s %s was not refused: %d %+v", method, path, status, e)
	}
	return status, e
}

// Untouched holds that nothing is listed and nothing is on the node.
func Untouched(t testing.TB, n *Node, d *Daemon) {
	t.Helper()
	o, err := d.List(t.Context())
	if err != nil || !o.Empty() {
		t.Errorf("listed: %s %v", o, err)
	}
	if left := n.Left(); len(left) > 0 {
		t.Errorf("left on the node:\n  %s", strings.Join(left, "\n  "))
	}
}

// Wait waits until a container is in a condition, such as ended, and gives it.
func Wait(d *Daemon, id models.ID, condition string) *models.Container {
	d.t.Helper()
	var c models.Container
	d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/container/%d/wait?timeout=20&condition=%s", id, condition), nil, &c)
	return &c
}

// Gone deletes a container by force and waits until nothing is listed. The container is named by a query, such as `id=3`.
func Gone(t testing.TB, d *Daemon, query string) {
	t.Helper()
	d.Want(http.StatusOK, http.MethodDelete, "/container?force=true&"+query, nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), goneTimeout)
	defer cancel()
	if err := d.WaitEmpty(ctx); err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
}

// WaitEmpty waits until nothing is listed: what lies below may go a moment after the answer.
func (d *Daemon) WaitEmpty(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := d.List(ctx)
		if err != nil || o.Empty() {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still listed: %s", o)
		case <-tick.C:
		}
	}
}
