//go:build lab

package storage

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/docs"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// The trees of the examples: the documentation's, and one that runs at once.
const (
	debian = "debian"
	small  = "small"
)

// What stands in the documentation: the servers' address, and what the NFS server exports.
const (
	documented = "192.0.2.10"
	images     = `"/images`
)

// examples are the definitions in docs/examples.
var examples = []string{"nfs-directory", "nfs-squashfs", "iscsi-squashfs", "rbd-squashfs", "iscsi-ext4", "rbd-ext4"}

// example gives a definition of docs/examples as it is, with the address put right, and has what it needs on the servers.
func (w *world) example(name string) *models.Container {
	w.t.Helper()
	lab(w.t).publish(w.t, name, debian)
	w.credentials()
	return decode(w.t, text(w.t, name))
}

// small gives a definition of docs/examples with the small tree in the place of the Debian, and a command of its own.
func (w *world) small(name, command string) *models.Container {
	w.t.Helper()
	lab(w.t).publish(w.t, name, small)
	w.credentials()
	c := decode(w.t, strings.NewReplacer(debian, small, nodeOf(debian), nodeOf(small)).Replace(text(w.t, name)))
	c.Command, c.Systemd, c.Name = &command, false, ""
	c.StopTimeout = new(int64(1)) // a shell does not listen while it waits for storage
	return c
}

// credentials puts all secrets where definitions name them.
func (w *world) credentials() {
	w.t.Helper()
	for name, secret := range lab(w.t).secrets {
		w.credential(name, secret)
	}
}

func text(t *testing.T, name string) string {
	t.Helper()
	data, err := docs.Files.ReadFile("examples/" + name + ".json")
	must(t, err)
	if !strings.Contains(string(data), documented) {
		t.Fatalf("docs/examples/%s.json does not have the address %s", name, documented)
	}
	return strings.NewReplacer(documented, address, images, `"`+control.Export).Replace(string(data))
}

func decode(t *testing.T, text string) *models.Container {
	t.Helper()
	var c models.Container
	must(t, json.Unmarshal([]byte(text), &c))
	return &c
}
