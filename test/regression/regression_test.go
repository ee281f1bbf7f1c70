package regression

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

func TestMain(m *testing.M) { daemon.Main(m) }

func str(s string) *string { return &s }

func base(b models.Base) *models.Base { return &b }

func loopback(image string) *models.Attach {
	return &models.Attach{Kind: "loopback", Loopback: &models.AttachLoopback{Path: &image, Base: base("root")}}
}

func squashfs(image string) *models.Mount {
	return &models.Mount{Kind: "attach", Attach: &models.MountAttach{FsType: str("squashfs"), Attach: loopback(image)}}
}

func overlay(lower ...*models.Mount) *models.Mount {
	return &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: lower}}
}

func running(name, image, command string) *models.Container {
	return &models.Container{Name: models.Name(name), Command: &command, State: "running", Mount: overlay(squashfs(image))}
}

func log(t *testing.T, d *daemon.Daemon, id models.ID) string {
	t.Helper()
	text, err := d.Text(t.Context(), fmt.Sprintf("/container/%d/log", id))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReadingAddsNoReference(t *testing.T) {
	_, d := daemon.Start(t)
	var m models.Mount
	d.Want(http.StatusCreated, http.MethodPost, "/mount", squashfs(smallroot.Image(t)), &m)
	for range 5 {
		var list []*models.Mount
		d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/mount?id=%d", m.ID), nil, &list)
		if list[0].Refs != 1 {
			t.Fatalf("refs %d after reading, want 1", list[0].Refs)
		}
		daemon.Refused(t, d, http.MethodGet, fmt.Sprintf("/attach?id=%d", m.ID), nil) // the id is of a mount
	}
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/mount?id=%d", m.ID), nil, nil)
}

func TestChainThatFailsHalfWayLeavesNothing(t *testing.T) {
	n, d := daemon.Start(t)
	dir := t.TempDir()
	noImage := filepath.Join(dir, "random")
	if err := os.WriteFile(noImage, []byte(strings.Repeat("no image ", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	bind := func(path string) *models.Mount {
		return &models.Mount{Kind: "bind", Bind: &models.MountBind{Path: &path, Base: base("root")}}
	}
	inMount := &models.Attach{Kind: "loopback", Loopback: &models.AttachLoopback{Path: str("/nothing"), Base: base("mount"), Mount: bind(dir)}}
	for name, spec := range map[string]any{
		"the base mount under a loopback":   inMount,
		"the base mount under a bind":       &models.Mount{Kind: "bind", Bind: &models.MountBind{Path: str("/nothing"), Base: base("mount"), Mount: bind(dir)}},
		"the device under what is no image": squashfs(noImage),
		"the lower layers of an overlay":    overlay(squashfs(smallroot.Image(t)), squashfs(noImage)),
	} {
		t.Run(name, func(t *testing.T) {
			path := "/mount"
			if _, ok := spec.(*models.Attach); ok {
				path = "/attach"
			}
			_, e := daemon.Refused(t, d, http.MethodPost, path, spec)
			if len(*e.Message) < 20 {
				t.Errorf("the message says too little: %q", *e.Message)
			}
			daemon.Untouched(t, n, d)
		})
	}
}

func TestDuplicateContainerNameMountsNothing(t *testing.T) {
	n, d := daemon.Start(t)
	img := smallroot.Image(t)
	d.Want(http.StatusCreated, http.MethodPost, "/container", running("twin", img, smallroot.Waits), nil)
	before := n.There()
	if status, e := daemon.Refused(t, d, http.MethodPost, "/container", running("twin", img, smallroot.Waits)); status != http.StatusConflict || !strings.Contains(*e.Message, "twin") {
		t.Errorf("%d %s", status, *e.Message)
	}
	if after := n.There(); len(after) != len(before) {
		t.Errorf("before %v\nafter %v", before, after)
	}
	daemon.Gone(t, d, "name=twin")
}

func TestStoppedMeansThatNothingRuns(t *testing.T) {
	_, d := daemon.Start(t)
	stubborn := `/bin/sh -c 'trap "" TERM; echo started; while :; do sleep 1000 & wait $!; done'`
	spec := running("stubborn", smallroot.Image(t), stubborn)
	spec.StopTimeout = new(int64)
	*spec.StopTimeout = 1
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", spec, &c)
	pid := int(c.Pid)
	var stopping models.Container
	d.Want(http.StatusOK, http.MethodPatch, "/container?name=stubborn&state=exited", nil, &stopping)
	if stopping.State != "stopping" {
		t.Errorf("state %q while it still runs, want stopping", stopping.State)
	}
	if status, _ := daemon.Refused(t, d, http.MethodDelete, "/container?name=stubborn", nil); status != http.StatusConflict {
		t.Errorf("deleting it meanwhile: %d, want 409", status)
	}
	ended := daemon.Wait(d, c.ID, "ended")
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("exited, but process %d lives: %v", pid, err)
	}
	if ended.ExitSignal != "SIGKILL" || *ended.ExitCode != 137 {
		t.Errorf("it was killed: exit code %v, signal %q", ended.ExitCode, ended.ExitSignal)
	}
	daemon.Gone(t, d, "name=stubborn")
}

func TestStopThatRacesTheExitEnds(t *testing.T) {
	_, d := daemon.Start(t)
	img := smallroot.Image(t)
	for i := range 10 {
		name := fmt.Sprintf("racer%d", i)
		var c models.Container
		d.Want(http.StatusCreated, http.MethodPost, "/container", running(name, img, "/bin/true"), &c)
		d.Want(http.StatusOK, http.MethodPatch, "/container?state=exited&name="+name, nil, nil)
		if got := daemon.Wait(d, c.ID, "ended"); got.State != "exited" {
			t.Errorf("state %q", got.State)
		}
		d.Want(http.StatusOK, http.MethodDelete, "/container?name="+name, nil, nil)
	}
}

func TestConcurrentStartsStartItOnce(t *testing.T) {
	_, d := daemon.Start(t)
	spec := running("once", smallroot.Image(t), `/bin/sh -c 'echo started; while :; do sleep 1000 & wait $!; done'`)
	spec.State = "created"
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", spec, &c)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if status, err := d.Call(t.Context(), http.MethodPatch, "/container?name=once&state=running", nil, nil); err != nil || status != http.StatusOK {
				t.Errorf("%d %v", status, err)
			}
		})
	}
	wg.Wait()
	daemon.Wait(d, c.ID, "running")
	var out models.ExecResult
	d.Want(http.StatusOK, http.MethodPost, fmt.Sprintf("/container/%d/exec", c.ID), &models.ExecSpec{Command: []string{"/bin/ps"}}, &out)
	if n := strings.Count(out.Stdout, "echo started"); n != 1 {
		t.Errorf("%d of it run:\n%s", n, out.Stdout)
	}
	daemon.Gone(t, d, "name=once")
}

func TestFailedStartSaysWhy(t *testing.T) {
	n, d := daemon.Start(t)
	img := smallroot.Image(t)
	for command, want := range map[string]string{
		"/sbin/nothing":    "/sbin/nothing",
		"/etc/passwd":      "execut",
		"/bin":             "/bin",
		`/bin/sh -c 'open`: "quot",
	} {
		status, e := daemon.Refused(t, d, http.MethodPost, "/container", running("never", img, command))
		if !strings.Contains(*e.Message, want) {
			t.Errorf("%s: %d %q does not say %q", command, status, *e.Message, want)
		}
		daemon.Untouched(t, n, d)
	}
	var kept []*models.Event
	d.Events(t.Context(), &kept)
	for _, e := range kept {
		if e.Type == "container.failed" && e.Name == "never" && e.Message != "" {
			return
		}
	}
	t.Errorf("the reason cannot be seen afterwards: %+v", kept)
}

func TestMissingInitLeavesTheDaemonWhereItWas(t *testing.T) {
	_, d := daemon.Start(t)
	daemon.Refused(t, d, http.MethodPost, "/container", running("never", smallroot.Image(t), "/sbin/nothing"))
	root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", d.PID()))
	if err != nil || root != "/" {
		t.Errorf("the daemon's root is %q: %v", root, err)
	}
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", d.PID()))
	if ours != theirs {
		t.Errorf("the daemon is in another mount namespace: %s, %s", ours, theirs)
	}
}

func TestQuotesInCommandQuote(t *testing.T) {
	_, d := daemon.Start(t)
	var c models.Container
	d.Want(http.StatusCreated, http.MethodPost, "/container", running("quotes", smallroot.Image(t), `/bin/echo 'one  word' "two"' words' three\ words`), &c)
	daemon.Wait(d, c.ID, "ended")
	if got := strings.TrimSpace(log(t, d, c.ID)); got != "one  word two words three words" {
		t.Errorf("the program saw %q", got)
	}
	daemon.Gone(t, d, "name=quotes")
}

func TestNullsAndMissingOptionsAreAnswered(t *testing.T) {
	n, d := daemon.Start(t)
	for _, body := range []string{
		`{"kind":"overlay","overlay":{"lower":[null]}}`,
		`{"kind":"overlay","overlay":{"lower":null}}`,
		`{"kind":"overlay","overlay":null}`,
		`{"kind":"attach","attach":{"fs_type":"squashfs","attach":{"kind":"rbd","rbd":{"monitors":["10.0.0.1"],"pool":"p","image":"i"}}}}`,
	} {
		daemon.Refused(t, d, http.MethodPost, "/mount", body)
	}
	daemon.Untouched(t, n, d)
}

func TestSecretIsNeverShown(t *testing.T) {
	_, d := daemon.Start(t)
	body := `{"kind":"rbd","rbd":{"monitors":["10.0.0.1"],"pool":"p","image":"i","options":{"name":"admin","secret":"TOPSECRET=="}}}`
	var answer json.RawMessage
	if _, err := d.Call(t.Context(), http.MethodPost, "/attach", body, &answer); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(answer), "TOPSECRET") {
		t.Errorf("the answer shows the secret: %s", answer)
	}
	if strings.Contains(d.Log(), "TOPSECRET") {
		t.Error("the log shows the secret")
	}
}

func TestReadOnlyBindIsReadOnly(t *testing.T) {
	_, d := daemon.Start(t)
	dir := t.TempDir()
	ro := true
	var m models.Mount
	d.Want(http.StatusCreated, http.MethodPost, "/mount",
		&models.Mount{Kind: "bind", Bind: &models.MountBind{Path: &dir, Base: base("root"), Ro: &ro}}, &m)
	if err := os.WriteFile(filepath.Join(m.Mountpoint, "x"), nil, 0o644); err == nil {
		t.Error("a read-only bind was written to")
	}
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/mount?id=%d", m.ID), nil, nil)
}

func TestBindOnTheSameFileSystemIsAMountPoint(t *testing.T) {
	n, d := daemon.Start(t)
	dir := filepath.Join(filepath.Dir(string(n.Dir)), "source") // on the file system of the mountpoints
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var m models.Mount
	d.Want(http.StatusCreated, http.MethodPost, "/mount", &models.Mount{Kind: "bind", Bind: &models.MountBind{Path: &dir, Base: base("root")}}, &m)
	d.Kill()
	d = n.Start(daemon.Options{})
	var list []*models.Mount
	d.Want(http.StatusOK, http.MethodGet, "/mount", nil, &list)
	if len(list) != 1 || list[0].State != "ready" {
		t.Errorf("after a restart: %+v", list)
	}
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/mount?id=%d", m.ID), nil, nil)
	if mounted, err := mountinfo.Below(m.Mountpoint); err != nil || len(mounted) > 0 {
		t.Errorf("still mounted: %v %v", mounted, err)
	}
}

func TestRestartForgetsNothing(t *testing.T) {
	for name, end := range map[string]func(*daemon.Daemon){"stopped": (*daemon.Daemon).Stop, "killed": (*daemon.Daemon).Kill} {
		t.Run(name, func(t *testing.T) {
			n, d := daemon.Start(t)
			img := smallroot.Image(t)
			var lives, dies models.Container
			d.Want(http.StatusCreated, http.MethodPost, "/container", running("lives", img, smallroot.Waits), &lives)
			d.Want(http.StatusCreated, http.MethodPost, "/container", running("dies", img, `/bin/sh -c 'trap "exit 7" TERM; while :; do sleep 1000 & wait $!; done'`), &dies)
			end(d)
			if err := syscall.Kill(int(dies.Pid), syscall.SIGTERM); err != nil { // it ends while no daemon runs
				t.Fatal(err)
			}
			d = n.Start(daemon.Options{})
			if got := daemon.Wait(d, dies.ID, "ended"); *got.ExitCode != 7 {
				t.Errorf("exit code %d of what ended meanwhile, want 7", *got.ExitCode)
			}
			var list []*models.Container
			d.Want(http.StatusOK, http.MethodGet, "/container?name=lives", nil, &list)
			got := list[0]
			if got.ID != lives.ID || got.State != "running" || got.Pid != lives.Pid || len(got.Mount.Holders) != 1 {
				t.Errorf("after the restart: %+v", got)
			}
			d.Want(http.StatusOK, http.MethodDelete, "/container?name=dies", nil, nil)
			daemon.Gone(t, d, "name=lives")
		})
	}
}
