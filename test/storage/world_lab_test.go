//go:build lab

package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/nodestate"
)

func TestMain(m *testing.M) { daemon.Main(m) }

// answerTimeout is how soon the daemon answers everything but a POST, whatever hangs.
const answerTimeout = 5 * time.Second

// world is a node with a daemon, and the secrets of the servers in its directory of credentials.
type world struct {
	t       *testing.T
	node    *daemon.Node
	d       *daemon.Daemon
	o       daemon.Options
	secrets string // directory
}

// begin starts a daemon. In the end everything is taken away by it, and nothing may be left on the node or on the servers.
func begin(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{t: t, node: daemon.NewNode(t), secrets: t.TempDir()}
	w.o.Args = append([]string{"--credentials-dir", w.secrets}, args...)
	w.start()
	t.Cleanup(w.end)
	return w
}

func (w *world) start() {
	w.t.Helper()
	w.d = w.node.Start(w.o)
}

// end takes everything away and holds that no secret has been told.
func (w *world) end() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case <-w.d.Done():
		w.start()
	default:
	}
	w.sweep(ctx)
	w.told()
	if w.t.Failed() {
		w.t.Logf("the daemon's last words:\n%s", w.lastWords())
	}
	w.d.Stop()
}

// lastWords is the end of the daemon's log, without the requests that only ask.
func (w *world) lastWords() string {
	said := slices.DeleteFunc(lines(w.d.Log()), func(line string) bool { return strings.Contains(line, "method=GET") })
	return strings.Join(said[max(0, len(said)-100):], "\n")
}

// in gives the same world to a subtest, for what it has to say.
func (w *world) in(t *testing.T) *world {
	at := *w
	at.t = t
	return &at
}

// credential puts a secret where definitions name it.
func (w *world) credential(name, secret string) {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.secrets, name), []byte(secret+"\n"), 0o600))
}

// run raises a container, which must work, and waits until it runs.
func (w *world) run(c *models.Container) *models.Container {
	w.t.Helper()
	var made models.Container
	w.d.Want(http.StatusCreated, http.MethodPost, "/container", c, &made)
	if made.State != models.ContainerStateRunning {
		w.t.Fatalf("the container is %s: %s", made.State, made.Error)
	}
	return &made
}

// exec runs a command in a container and gives what it printed; it must end with 0.
func (w *world) exec(c *models.Container, command ...string) string {
	w.t.Helper()
	r, err := w.tryExec(w.t.Context(), c, command...)
	if err != nil || r.ExitCode != 0 {
		w.t.Fatalf("exec %q: %v, exit code %d, %s%s", command, err, r.ExitCode, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func (w *world) tryExec(ctx context.Context, c *models.Container, command ...string) (r models.ExecResult, err error) {
	var answer json.RawMessage
	status, err := w.d.Call(ctx, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), models.ExecSpec{Command: command}, &answer)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, answer)
	}
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	return r, err
}

// there lists what of a class is on the node.
func (w *world) there(class nodestate.Class) []nodestate.Item {
	w.t.Helper()
	s, err := nodestate.Take(nodestate.Options{RunDir: string(w.node.Dir)})
	must(w.t, err)
	return s.Of(class)
}

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, so func() bool) bool {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Errorf("not within %v: %s", limit, what)
			return false
		}
	}
	return true
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lines are those of a text that are not empty.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}
