//go:build lab

package storage

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/nodestate"
)

// readyTimeout is how long a Debian may take until its systemd says that it is ready, in a machine that is emulated.
const readyTimeout = 90 * time.Second

// source is the tree that the images with Debian were made of.
const source = "/var/cache/windlass-test/debian-rootfs"

// TestSchemes posts the definitions of docs/examples: a Debian on each kind of storage runs systemd, reads its image, and writes; then it is
// deleted, and raised once more, to see what of that was kept; and in the end nothing is left.
func TestSchemes(t *testing.T) {
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			def := w.example(name)
			began := time.Now()
			c := w.run(def)
			running := time.Since(began)
			w.ready(c)
			t.Logf("figure: Debian on %s: running %v after the request, ready after %v", name, running.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
			w.reads(c)
			w.has(name)
			w.told()
			kept := w.writes(c)
			w.remove(c)
			w.again(def, kept, strings.HasSuffix(name, "ext4"))
			lab(t).nobody(t)
		})
	}
}

// ready waits for the word of the container's own systemd.
func (w *world) ready(c *models.Container) {
	w.t.Helper()
	var now models.Container
	w.d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/container/%d/wait?condition=ready&timeout=%d", c.ID, int(readyTimeout.Seconds())), nil, &now)
	if now.Ready == nil || !*now.Ready {
		log, _ := w.d.Text(w.t.Context(), fmt.Sprintf("/container/%d/log", c.ID))
		w.t.Fatalf("not ready within %v: %s %s\n%s", readyTimeout, now.State, now.Error, log)
	}
}

// reads compares files of the image with those that it was made of.
func (w *world) reads(c *models.Container) {
	w.t.Helper()
	files := []string{"usr/bin/bash", "usr/lib/systemd/systemd", "etc/passwd"}
	var there, here []string
	for _, f := range files {
		there, here = append(there, "/"+f), append(here, source+"/"+f)
	}
	got := w.exec(c, append([]string{"/usr/bin/sha256sum"}, there...)...)
	out, err := exec.CommandContext(w.t.Context(), "sha256sum", here...).Output()
	must(w.t, err)
	if want := strings.ReplaceAll(string(out), source, ""); got != want {
		w.t.Errorf("the container reads\n%s\nand in the image is\n%s", got, want)
	}
}

// has holds that the tests would see what an example has on the node, if it were left there.
func (w *world) has(name string) {
	w.t.Helper()
	want := map[string]nodestate.Class{"rbd": nodestate.RBD, "isc": nodestate.SCSI, "nfs": nodestate.Mount}[name[:3]]
	if len(w.there(want)) == 0 {
		w.t.Errorf("no %s is seen on the node while %s is there", want, name)
	}
	if len(connections(w.t)) == 0 {
		w.t.Errorf("no connection to a server is seen while %s is there", name)
	}
}

// writes writes a file in the container and gives its path.
func (w *world) writes(c *models.Container) string {
	w.t.Helper()
	const path = "/root/written"
	w.exec(c, "/bin/sh", "-c", "echo kept >"+path+" && sync "+path)
	return path
}

// again raises the same definition and looks whether a file is still there, as it should be when it was kept.
func (w *world) again(def *models.Container, path string, kept bool) {
	w.t.Helper()
	def.StopTimeout = new(int64(1)) // a systemd that begins does not hear that it is to end
	c := w.run(def)
	r, err := w.tryExec(w.t.Context(), c, "/bin/cat", path)
	switch {
	case err != nil:
		w.t.Error(err)
	case kept && r.Stdout != "kept\n":
		w.t.Errorf("%s was not kept: %+v", path, r)
	case !kept && r.ExitCode == 0:
		w.t.Errorf("%s was kept: %+v", path, r)
	}
	w.remove(c)
}
