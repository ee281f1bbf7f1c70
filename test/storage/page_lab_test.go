//go:build lab

package storage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"testing"

	"github.com/windlass-hpc/windlass/docs"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// block is a definition in a page; test/docs holds that each fits the contract.
var block = regexp.MustCompile("(?ms)^```json (attach|mount)\n(.*?)^```$")

// TestPages posts every definition of the pages on storage of the network: each works, with addresses put right and with what it names made
// on the servers, and is taken away again.
func TestPages(t *testing.T) {
	w := begin(t)
	for _, page := range []string{"attachments/rbd.md", "attachments/iscsi.md", "mounts/nfs.md"} {
		text, err := docs.Files.ReadFile(page)
		must(t, err)
		blocks := block.FindAllStringSubmatch(string(text), -1)
		if len(blocks) == 0 {
			t.Errorf("docs/%s has no definition", page)
		}
		for n, b := range blocks {
			t.Run(fmt.Sprintf("%s#%d", page, n+1), func(t *testing.T) { w.in(t).post(b[1], b[2]) })
		}
	}
	lab(t).nobody(t)
}

// post posts a definition, reads from what comes of it, and takes that away.
func (w *world) post(kind, text string) {
	w.t.Helper()
	if kind == "attach" {
		var a models.Attach
		must(w.t, json.Unmarshal([]byte(text), &a))
		w.provide(&a, "")
		made := w.attach(&a)
		readStart(w.t, made.DeviceFile)
		w.told()
		w.clear()
		return
	}
	var m, made models.Mount
	must(w.t, json.Unmarshal([]byte(text), &m))
	w.provideMount(&m)
	w.d.Want(http.StatusCreated, http.MethodPost, "/mount", &m, &made)
	if entries, err := os.ReadDir(made.Mountpoint); err != nil || len(entries) == 0 {
		w.t.Errorf("%s has %v: %v", made.Mountpoint, entries, err)
	}
	w.clear()
}

// readStart reads the beginning of a device.
func readStart(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	if n, err := f.Read(make([]byte, 64<<10)); err != nil || n == 0 {
		t.Errorf("read %s: %d bytes, %v", path, n, err)
	}
}
