//go:build guest

package netboot

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// originURL is a web server that can fail, beside the boot server.
const originURL = "http://" + serverAddr + ":8081"

// origin gives the definition and the image, as long as fails gives 0; else it answers with that status.
func origin(t *testing.T, fails func(path string) int) {
	t.Helper()
	l, err := net.Listen("tcp", serverAddr+":8081")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code := fails(r.URL.Path)
		switch {
		case code != 0:
			w.WriteHeader(code)
		case r.URL.Path == "/debian.json":
			fmt.Fprint(w, definition(originURL+"/debian.squashfs"))
		default:
			http.ServeFile(w, r, dir+"/images/debian.squashfs")
		}
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
}

// failed waits until the boot server has been told of a failure in a stage.
func (m *machine) failed(stage, text string) {
	m.t.Helper()
	m.within(fmt.Sprintf("the boot server knows that %s failed: %s", stage, text), func() bool { return reported(m.t, m.mac, stage, text) })
}

// TestFaults has machines boot whose image is not to be had at first: the server fails, and the definition is another one than the command
// line says. Both come up when that is mended, by themselves.
func TestFaults(t *testing.T) {
	vm.Slot(t, vm.Config{})
	t.Run("image answers 500", func(t *testing.T) {
		site{mode: "dhcp", words: "windlass.container=" + originURL + "/debian.json"}.serve(t)
		var mended atomic.Bool
		origin(t, func(path string) int {
			if path == "/debian.squashfs" && !mended.Load() {
				return http.StatusInternalServerError
			}
			return 0
		})
		m := on(t, bios, 0)
		m.failed("container", "500")
		m.shows("500")
		mended.Store(true)
		m.runs("running", seenByServer...)
	})
	t.Run("wrong digest", func(t *testing.T) {
		right := definition(originURL + "/debian.squashfs")
		site{mode: "dhcp", words: fmt.Sprintf("windlass.container=%s/debian.json windlass.container.digest=sha256:%x", originURL, sha256.Sum256([]byte(right+" ")))}.serve(t)
		origin(t, func(string) int { return 0 })
		m := on(t, bios, 0)
		m.failed("image", "has the digest")
		m.shows("has the digest", "A shell is on the console")
		if all, err := m.containers(); err != nil || len(all) > 0 {
			t.Errorf("containers: %v, %v", all, err)
		}
	})
}
