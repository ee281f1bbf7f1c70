//go:build lab

package storage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

// readsAll is a command that reads all that the small tree has in /data, a file after the other, and says what it read.
const readsAll = `/bin/sh -c 'trap "exit 0" TERM
for f in /data/*; do /bin/busybox sha256sum $f; sleep 0.05; done; echo finished; while :; do sleep 1000 & wait $!; done'`

// waits is a command that does nothing until it is told to end.
const waits = smallroot.Waits

// Patience of the tests of faults.
const (
	stuckTimeout  = 30 * time.Second // until an object says that its storage does not answer
	resumeTimeout = 60 * time.Second // until those who waited go on when it is back: TCP backs off, and so does the iSCSI login
)

// reading raises a container that reads, on what an example describes, and waits until it is in the middle of it.
func (w *world) reading(def *models.Container) *models.Container {
	w.t.Helper()
	c := w.run(def)
	within(w.t, 20*time.Second, "the container reads", func() bool { return len(w.printed(c)) > 0 })
	return c
}

// printed are the lines that a container has printed.
func (w *world) printed(c *models.Container) []string {
	w.t.Helper()
	text, err := w.d.Text(w.t.Context(), fmt.Sprintf("/container/%d/log", c.ID))
	if err != nil {
		w.t.Fatal(err)
	}
	return lines(strings.ReplaceAll(text, "\r", ""))
}

// finished waits until a container has read all, and holds that it read what is there.
func (w *world) finished(c *models.Container) {
	w.t.Helper()
	if !within(w.t, resumeTimeout, "the container has read all", func() bool { return w.readAll(c) }) {
		w.t.Logf("it has printed\n%s", strings.Join(w.printed(c), "\n"))
		return
	}
	want := append(sums(), "finished")
	if got := w.printed(c); strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("the container read\n%s\nand there is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *world) readAll(c *models.Container) bool {
	got := w.printed(c)
	return len(got) > 0 && got[len(got)-1] == "finished"
}

// stuck waits until an object says that its storage does not answer, and gives how long that took.
func (w *world) stuck() {
	w.t.Helper()
	began := time.Now()
	said := ""
	within(w.t, stuckTimeout, "an object is named as stuck", func() bool { said = w.complaint(); return said != "" })
	w.t.Logf("after %v: %s", time.Since(began).Round(100*time.Millisecond), said)
}

// well waits until no object says so any more.
func (w *world) well() {
	w.t.Helper()
	within(w.t, stuckTimeout, "no object is named as stuck any more", func() bool { return w.complaint() == "" })
}

// complaint is what an object of storage says of itself when that does not answer; empty when all is well.
func (w *world) complaint() string {
	w.t.Helper()
	o, err := w.d.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range o.Attachments {
		if strings.HasPrefix(a.Error, "stuck: ") {
			return fmt.Sprintf("attach %d (%s): %s", a.ID, a.Kind, a.Error)
		}
	}
	for _, m := range o.Mounts {
		if strings.HasPrefix(m.Error, "stuck: ") {
			return fmt.Sprintf("mount %d (%s): %s", m.ID, m.Kind, m.Error)
		}
	}
	return ""
}

// sound reads a file of the small tree where it is mounted.
func (w *world) sound(m *models.Mount) {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(m.Mountpoint, "data/03"))
	must(w.t, err)
	if !bytes.Equal(got, part(3)) {
		w.t.Errorf("%s: data/03 is not what it should be", m.Mountpoint)
	}
}
