//go:build guest

package netboot

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// origin is a web server beside the boot server, which can go and come back.
type origin struct {
	t    *testing.T
	addr string

	mu     sync.Mutex
	server *http.Server // nil while it is away
	what   http.Handler
}

func newOrigin(t *testing.T, w wire) *origin {
	t.Helper()
	o := &origin{t: t, addr: w.addr() + ":8081"}
	o.comes()
	t.Cleanup(o.goes)
	return o
}

// comes has it listen.
func (o *origin) comes() {
	o.t.Helper()
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(o.serve)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.server = s
	go func() { _ = s.Serve(l) }()
}

// goes has it close all connections and refuse others.
func (o *origin) goes() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		o.server.Close()
	}
	o.server = nil
}

// does says what it answers from now on.
func (o *origin) does(what http.Handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.what = what
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	what := o.what
	o.mu.Unlock()
	what.ServeHTTP(w, r)
}

// pages answers with a definition and, to whoever asks for an image, as said.
func pages(definition string, image http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debian.json", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, definition) })
	mux.HandleFunc("/debian.squashfs", image)
	return mux
}

// whole gives the image, or the part of it that is asked for.
func whole(w http.ResponseWriter, r *http.Request) {
	http.ServeFile(w, r, dir+"/images/debian.squashfs")
}

// half gives the first 8 MiB of the image and then does something.
func half(then func()) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		data, err := os.ReadFile(dir + "/images/debian.squashfs")
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Header().Set("ETag", `"half"`)
		_, _ = w.Write(data[:8<<20]) // the machine may have gone
		_ = http.NewResponseController(w).Flush()
		then()
		panic(http.ErrAbortHandler)
	}
}

// TestServersGo has a machine boot whose image server fails, goes in the middle of the image, stays away and comes back.
func TestServersGo(t *testing.T) {
	t.Parallel()
	w := free(t)
	site{wire: w, mode: "dhcp", words: "windlass.container=" + w.originURL() + "/debian.json"}.serve(t)
	definition := debian(w.originURL() + "/debian.squashfs")
	o := newOrigin(t, w)
	o.does(pages(definition, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	m := w.on(t, bios, 0)
	m.failed("container", "500")
	m.shows("500 Internal Server Error")

	gone := make(chan struct{})
	o.does(pages(definition, half(sync.OnceFunc(func() { close(gone) }))))
	m.until("it has half of the image", gone)
	o.goes()
	m.failed("container", `given up at byte [1-9]`)
	m.shows("again in", "failed; it is tried again meanwhile. A shell is on the console")
	m.answers("rescued")

	o.does(pages(definition, whole))
	o.comes()
	m.runs("debian", append(seenByServer, "rescue")...)
}

// TestDHCPLate has a machine boot whose DHCP server is away when init asks, and whose definition is another one than the command line says.
// It comes up by itself when that is mended. Then its daemon is killed.
func TestDHCPLate(t *testing.T) {
	t.Parallel()
	w := free(t)
	right := debian(w.url() + "/images/debian.squashfs")
	o := newOrigin(t, w)
	o.does(pages(right+" ", whole))
	config := site{wire: w, mode: "dhcp", words: fmt.Sprintf("windlass.container=%s/debian.json windlass.container.digest=sha256:%x", w.originURL(), sha256.Sum256([]byte(right)))}.write(t)
	end := serve(t, config)
	m := w.on(t, bios, 0)
	m.shows("/files/initramfs.img... ok")
	end()
	m.shows("DHCP, round 1: ", "no device has an address yet; it is tried on", "there is no network; it is tried on meanwhile. A shell is on the console")
	m.answers("rescued")
	if strings.Contains(m.text(), "windlass: daemon: it serves") {
		t.Error("it had an address before there was a DHCP server")
	}

	serve(t, config)
	m.failed("network", "no device has an address yet")
	m.failed("image", "has the digest")
	m.shows("has the digest sha256:")
	if all, err := m.containers(); err != nil || len(all) > 0 {
		t.Errorf("containers: %v, %v", all, err)
	}
	o.does(pages(right, whole))
	m.runs("debian", append(seenByServer, "rescue")...)
	m.killed()
}

// killed kills the daemon, from the shell on the console, and looks at what the next one says of the container.
func (m *machine) killed() {
	const state = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f22 /proc/1/stat"
	serves := regexp.MustCompile(`daemon: it serves, process (\d+)`)
	daemons := func() [][]string { return serves.FindAllStringSubmatch(m.text(), -1) }
	before, inside := m.only(), m.exec(state)
	first := daemons()
	if len(first) != 1 {
		m.t.Fatalf("the console tells of %d daemons: %q", len(first), first)
	}
	m.types("kill -9 " + first[0][1])
	m.shows("was ended by SIGKILL", "containers go on")
	m.within("its console tells of another daemon", func() bool { return len(daemons()) == 2 && daemons()[1][1] != first[0][1] })
	m.failed("daemon", "SIGKILL")
	m.ready("debian")
	if after, insideNow := m.only(), m.exec(state); after != before || insideNow != inside {
		m.t.Errorf("before the daemon was killed: %+v %q; after it: %+v %q", before, inside, after, insideNow)
	}
	if text := m.exec("systemctl is-system-running --wait"); !strings.Contains(text, "running") {
		m.t.Errorf("the system in the container is %q", text)
	}
	m.at(bootstage.Running)
}

// until waits for something that a server does.
func (m *machine) until(what string, done <-chan struct{}) {
	m.t.Helper()
	m.within(what, func() bool {
		select {
		case <-done:
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
}
