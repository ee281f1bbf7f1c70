//go:build guest

package netboot

import (
	"net/http"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// TestLayercake has a machine boot to its daemon, and raises the container from outside, as layercake does: GET, POST, GET, PATCH, DELETE.
func TestLayercake(t *testing.T) {
	vm.Slot(t, vm.Config{})
	site{mode: "dhcp"}.serve(t)
	m := on(t, bios, 0)
	m.within("its API answers, with no container", func() bool { all, err := m.containers(); return err == nil && len(all) == 0 })
	body := strings.Replace(definition(webURL+"/images/debian.squashfs"), "{", `{"state":"running",`, 1)
	if text, code, err := m.send(http.MethodPost, "/container", body); err != nil || code != http.StatusCreated {
		t.Fatalf("POST: %d, %v: %s", code, err, text)
	}
	m.runs("image", seenByServer...) // where it waits for orders
	if text, code, err := m.send(http.MethodPatch, "/container?name=debian&state=exited", ""); err != nil || code != http.StatusOK {
		t.Fatalf("PATCH: %d, %v: %s", code, err, text)
	}
	m.within("the container has exited", func() bool {
		all, err := m.containers()
		return err == nil && len(all) == 1 && all[0].State == "exited"
	})
	if text, code, err := m.send(http.MethodDelete, "/container?name=debian", ""); err != nil || code != http.StatusOK {
		t.Fatalf("DELETE: %d, %v: %s", code, err, text)
	}
	for _, kind := range []string{"/container", "/mount", "/attach"} {
		if text, code, err := m.send(http.MethodGet, kind, ""); err != nil || code != http.StatusOK || strings.TrimSpace(text) != "[]" {
			t.Errorf("GET %s after DELETE: %d, %v: %s", kind, code, err, text)
		}
	}
}
