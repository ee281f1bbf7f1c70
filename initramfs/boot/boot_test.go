package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/api"
	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/boot/network"
	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/namespace"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const insideVar = "WINDLASS_BOOT_TEST_INSIDE"

// TestMain runs the tests in a network of their own, in a process that takes orphans, or is the network's process that one of them starts.
func TestMain(m *testing.M) {
	if Program(os.Args[0]) == networkProgram {
		os.Exit(Main(networkProgram, "test", os.Stderr))
	}
	if os.Args[0] == strayProgram {
		liveWithStrays()
		os.Exit(0)
	}
	if inside, code := namespace.Again(insideVar, unix.CLONE_NEWNET|unix.CLONE_NEWNS); !inside {
		os.Exit(code)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fakeDaemon answers as the daemon does, and fails as it is told.
type fakeDaemon struct {
	mu      sync.Mutex
	fail    []int // statuses of the next creations; -1 raises the container and breaks the connection
	there   []*models.Container
	created int
	deleted int
	ended   chan struct{}
}

func (d *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(status int, kind, text string) { answer(status, models.Error{Kind: kind, Message: &text}) }
	switch path := strings.TrimPrefix(r.URL.Path, "/imageapi/v1"); {
	case r.Method == http.MethodPost && path == "/container":
		var c models.Container
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			refuse(400, "invalid", err.Error())
			return
		}
		d.created++
		status := 201
		if len(d.fail) > 0 {
			status, d.fail = d.fail[0], d.fail[1:]
		}
		if status == 502 {
			refuse(502, "backend", "read http://h/image: the server is gone")
			return
		}
		if status == 400 {
			refuse(400, "invalid", "mount: it cannot be")
			return
		}
		c.ID, c.Pid, c.State = models.ID(d.created), 77, models.ContainerStateRunning
		d.there = append(d.there, &c)
		if status < 0 {
			panic(http.ErrAbortHandler)
		}
		answer(201, c)
	case r.Method == http.MethodGet && path == "/container":
		answer(200, d.there)
	case strings.HasSuffix(path, "/wait"):
		if r.URL.Query().Get("condition") == "ended" {
			d.mu.Unlock()
			select {
			case <-d.ended:
			case <-r.Context().Done():
			}
			d.mu.Lock()
			code := int64(3)
			d.there[len(d.there)-1].ExitCode = &code
		}
		answer(200, d.there[len(d.there)-1])
	case r.Method == http.MethodDelete:
		d.deleted++
		d.there = nil
		answer(200, struct{}{})
	default:
		refuse(404, "not_found", path)
	}
}

// text may be written and read at once.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) { t.mu.Lock(); defer t.mu.Unlock(); return t.b.Write(p) }
func (t *text) String() string              { t.mu.Lock(); defer t.mu.Unlock(); return t.b.String() }

// newNode is an init whose daemon is d, with a command line.
func newNode(t *testing.T, d *fakeDaemon, line string) (*node, *text) {
	t.Helper()
	d.ended = make(chan struct{})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(d)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	out := &text{}
	n := newInit("test", line, nil, journal.New(out), journal.NewConsole(out))
	n.api = api.New(socket)
	n.fetch = fetch.New(fetch.Config{Timing: fetch.Timing{Pause: time.Millisecond, Longest: time.Millisecond, Tries: 2}})
	n.timing = timing{pause: 5 * time.Millisecond, longest: 20 * time.Millisecond, hopeless: 10 * time.Millisecond, patience: 3}
	close(n.up)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it said:\n%s", out)
		}
	})
	return n, out
}

// web serves a definition after some failures.
func web(t *testing.T, failures ...int) string {
	loopback(t)
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(failures) > 0 {
			w.WriteHeader(failures[0])
			failures = failures[1:]
			return
		}
		fmt.Fprint(w, `{"name":"box","command":"/sbin/init","mount":{"id":1}}`)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/box.json"
}

func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// loopback brings lo up, which the web servers of the tests are at.
func loopback(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheNetworkOutlivesItsProcess(t *testing.T) {
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near0"}, PeerName: "far0"}
	if err := netlink.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(v) })
	far, err := netlink.LinkByName("far0")
	if err == nil {
		err = netlink.LinkSetUp(far)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out := &text{}
	o := cmdline.Parse("windlass.net=near0,10.9.9.1/24 windlass.hostname=n1", nil)
	p := startNetwork(ctx, reaper(), network.Config{Links: o.Links}, func(f string, a ...any) { fmt.Fprintf(out, f+"\n", a...) })
	t.Cleanup(func() { cancel(); <-p.done })
	wait, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	s, err := p.Wait(wait)
	if err != nil || s.Address.String() != "10.9.9.1/24" || len(p.MAC()) != 6 {
		t.Fatalf("%+v, %v, said:\n%s", s, err, out)
	}
	within(t, "it is told what it does", func() bool { return strings.Contains(out.String(), "near0: 10.9.9.1/24 from the command line") })
	p.mu.Lock()
	pid := p.pid
	p.mu.Unlock()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "it is started again", func() bool { return strings.Count(out.String(), "near0: 10.9.9.1/24 from the command line") == 2 })
	if !strings.Contains(out.String(), "it was ended by SIGKILL; it is started again") {
		t.Errorf("said:\n%s", out)
	}
	if r, err := netlink.RouteGet(net.IPv4(10, 9, 9, 2)); err != nil || len(r) == 0 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestTheContainerComesInTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		web, daemon []int
		said        []string
		created     int
	}{
		"at once":              {nil, nil, []string{"image: definition", "container: box runs, process 77", "running: box is ready"}, 1},
		"the web server fails": {[]int{500, 500, 500, 404, 503}, nil, []string{"image: failed", "500", "404", "again in", "running: box is ready"}, 1},
		"the daemon refuses":   {nil, []int{502, 400, 502}, []string{"container: failed: read http://h/image: the server is gone", "mount: it cannot be", "running: box is ready"}, 4},
		"the answer is lost":   {nil, []int{-1}, []string{"the daemon does not answer", "running: box is ready"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := &fakeDaemon{fail: c.daemon}
			n, out := newNode(t, d, "windlass.rescue=off windlass.container="+web(t, c.web...))
			n.image(t.Context())
			for _, want := range c.said {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q was not said", want)
				}
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.created != c.created || len(d.there) != 1 {
				t.Errorf("created %d times, want %d; %d are there", d.created, c.created, len(d.there))
			}
		})
	}
}

func TestAWrongDigestIsRefused(t *testing.T) {
	d := &fakeDaemon{}
	n, out := newNode(t, d, "windlass.rescue=off windlass.container="+web(t)+" windlass.container.digest=sha256:"+strings.Repeat("0", 64))
	go n.image(t.Context())
	within(t, "it is tried again", func() bool { return strings.Contains(out.String(), "(failure 3)") })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.created > 0 || !strings.Contains(out.String(), "has the digest sha256:") {
		t.Errorf("created %d", d.created)
	}
}

func TestADefinitionThatIsNotSignedIsRefused(t *testing.T) {
	d := &fakeDaemon{}
	const key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
	n, out := newNode(t, d, "windlass.rescue=off windlass.container="+web(t)+" windlass.container.key="+key)
	go n.image(t.Context())
	within(t, "it is tried again", func() bool { return strings.Contains(out.String(), "(failure 3)") })
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.created > 0 || !strings.Contains(out.String(), "its signature is none of minisign") { // the server gives the definition for any path
		t.Errorf("created %d", d.created)
	}
}

// reports is a boot server that keeps what it is told, as STAGE STATE MESSAGE.
func reports(t *testing.T) (url string, got func() []string) {
	loopback(t)
	var mu sync.Mutex
	var list []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rep, err := bootstage.ParseReport(body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		mu.Lock()
		defer mu.Unlock()
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s%s", rep.Stage, rep.State, rep.Message, rep.Error)))
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(list) }
}

const mac = " BOOTIF=01-52-54-00-12-34-56 "

func TestABootServerSeesHowFarItIs(t *testing.T) {
	url, got := reports(t)
	d := &fakeDaemon{}
	n, _ := newNode(t, d, "windlass.rescue=off windlass.container="+web(t)+mac+"windlass.report="+url)
	n.daemon = &supervise.Daemon{}
	n.reports.Network()
	n.serves(n.j.Begin(bootstage.Daemon), time.Second)
	n.image(t.Context())
	again := n.j.Begin(bootstage.Rescue)
	n.serves(again, time.Second) // another daemon: the node is as far as it was
	close(d.ended)
	n.reports.Flush(20 * time.Second)
	within(t, "its end is told", func() bool { return strings.HasPrefix(got()[len(got())-1], "running failed box: it has ended") })
	want := []string{"daemon begun", "daemon done it serves, process 0, after 1.0 s", "image begun", "image done definition ", "container begun", "container done box runs, process 77",
		"running begun box starts, and is not ready yet", "running done box is ready", "rescue begun", "running failed box: it has ended with code 3"}
	all := got()
	for i := range want {
		if i >= len(all) || !strings.HasPrefix(all[i], want[i]) {
			t.Fatalf("report %d is not %q:\n%s", i, want[i], strings.Join(all, "\n"))
		}
	}
}

func TestWithoutAContainerTheDaemonIsTheLastStage(t *testing.T) {
	url, got := reports(t)
	n, _ := newNode(t, &fakeDaemon{}, "windlass.rescue=off"+mac+"windlass.report="+url)
	n.daemon = &supervise.Daemon{}
	n.reports.Network()
	n.serves(n.j.Begin(bootstage.Daemon), time.Second)
	n.image(t.Context())
	n.reports.Flush(20 * time.Second)
	all := got()
	if len(all) != 2 || !strings.HasPrefix(all[1], "daemon done it serves") || !strings.Contains(all[1], "waits for orders") {
		t.Errorf("%q", all)
	}
}

func TestTheEndOfTheContainerIsTold(t *testing.T) {
	d := &fakeDaemon{}
	n, out := newNode(t, d, "windlass.rescue=off windlass.container="+web(t))
	n.image(t.Context())
	close(d.ended)
	within(t, "it is told", func() bool { return strings.Contains(out.String(), "box: it has ended with code 3") })
}

func TestWhatAnEarlierTryHasLeftIsTakenAway(t *testing.T) {
	d := &fakeDaemon{there: []*models.Container{{ID: 9, State: models.ContainerStateDead, Labels: map[string]string{"windlass.boot": "yes"}}, {ID: 4}}}
	n, _ := newNode(t, d, "windlass.rescue=off windlass.container="+web(t))
	n.image(t.Context())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deleted != 1 || d.created != 1 {
		t.Errorf("deleted %d, created %d", d.deleted, d.created)
	}
}

func TestTheNextKernelGoesOnFromTheSameLine(t *testing.T) {
	n, _ := newNode(t, &fakeDaemon{}, `BOOT_IMAGE=/k console=ttyS0 windlass.handoff=kexec windlass.container=http://h/ x="a b"`)
	if got := n.nextLine(); got != `console=ttyS0 windlass.container=http://h/ "x=a b"` {
		t.Errorf("%q", got)
	}
}

func TestNamesAndSignals(t *testing.T) {
	for arg0, want := range map[string]string{"/init": "init", "/sbin/init": "init", "/sbin/poweroff": "poweroff", "windlass": "", "/sbin/modprobe": "", "": ""} {
		if got := Program(arg0); got != want {
			t.Errorf("%q: %q", arg0, got)
		}
	}
	for s, want := range map[unix.Signal]string{unix.SIGINT: "reboot", unix.SIGTERM: "reboot", unix.SIGUSR1: "halt", unix.SIGUSR2: "poweroff", unix.SIGPWR: "poweroff",
		47: "halt now", 48: "poweroff now", 49: "reboot now"} {
		how, now := ending(s)
		if now {
			how += " now"
		}
		if how != want {
			t.Errorf("%v: %q", s, how)
		}
	}
}

// TestOnlyWindlassAsInitIsAsked makes directories as /proc has them.
func TestOnlyWindlassAsInitIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		exe, line string
		good      bool
	}{
		"windlass's init":                 {"/bin/windlass", "/init\x00quiet\x00", true},
		"it was replaced":                 {"/bin/windlass (deleted)", "/sbin/init\x00", true},
		"systemd":                         {"/usr/lib/systemd/systemd", "/sbin/init\x00", false},
		"the daemon alone in a container": {"/bin/windlass", "windlass\x00serve\x00", false},
		"the shim":                        {"/bin/windlass-shim", "init\x00", false},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Symlink(c.exe, dir+"/exe"), os.WriteFile(dir+"/cmdline", []byte(c.line), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := firstIsInit(dir); (err == nil) != c.good || err != nil && !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Ask("lunch", true); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}

func TestInitStartedByHandTouchesNothing(t *testing.T) {
	var errs bytes.Buffer
	if code := Main("init", "test", &errs); code != 2 || !strings.Contains(errs.String(), "touches nothing") {
		t.Errorf("%d: %s", code, &errs)
	}
	errs.Reset()
	if code := Main("poweroff", "test", &errs); code != 1 || !strings.Contains(errs.String(), "is not asked") {
		t.Errorf("%d: %s", code, &errs)
	}
}
