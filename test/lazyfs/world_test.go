package lazyfs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// disk is a directory of a file system that is on a disk, also where /tmp and /run are not: the kernel mounts files of it.
const disk = "/var/tmp"

// world is a node with a daemon whose chunk cache is the test's own.
type world struct {
	t     *testing.T
	node  *daemon.Node
	d     *daemon.Daemon
	o     daemon.Options
	cache string
	place control.Place
}

// begin starts a daemon with its cache at a directory of the disk.
func begin(t *testing.T, args ...string) *world {
	t.Helper()
	return beginAt(t, tempDir(t), args...)
}

func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(disk, "windlass-lazyfs-")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// tmpfs mounts one of so many bytes.
func tmpfs(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// beginAt starts a daemon. In the end all mounts are taken away by it, and it stops; then nothing may be left.
func beginAt(t *testing.T, dir string, args ...string) *world {
	t.Helper()
	w := &world{t: t, cache: filepath.Join(dir, "cache")}
	w.o.Args = append([]string{"--chunkfs-cache", w.cache}, args...)
	w.node = daemon.NewNode(t)
	w.place = control.PlaceIn(string(w.node.Dir))
	w.start()
	t.Cleanup(w.end)
	return w
}

func (w *world) start() {
	w.t.Helper()
	w.d = w.node.Start(w.o)
}

func (w *world) end() {
	if w.t.Failed() {
		log, _ := os.ReadFile(w.place.Log())
		w.t.Logf("the server's log:\n%s", log[max(0, len(log)-8000):])
	}
	select {
	case <-w.d.Done():
		w.start()
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := w.d.List(ctx)
	if err != nil {
		w.t.Error(err)
	}
	for _, m := range o.Mounts {
		if _, err := w.d.Call(ctx, http.MethodDelete, fmt.Sprintf("/mount?force=true&id=%d", m.ID), nil, nil); err != nil {
			w.t.Error(err)
		}
	}
	w.d.Stop()
	w.gone(w.t)
}

// goneTimeout is how long a server may take to end when nobody needs it any more.
const goneTimeout = 10 * time.Second

// gone waits until there is neither a keeper nor a server, which must be soon.
func (w *world) gone(t *testing.T) {
	t.Helper()
	within(t, goneTimeout, "keeper and server go when nobody needs them", func() bool {
		p := w.processes()
		return p.keeper == 0 && p.server == 0
	})
}

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Errorf("not within %v: %s", limit, what)
			return
		}
	}
}

// spec is a mount of an image from origins, with nothing fetched ahead unless change says so.
func spec(img *image, mode string, change func(*models.MountChunkfs), origins ...string) *models.Mount {
	tag, none := img.tag, "none"
	part := &models.MountChunkfs{Image: &tag, Mode: &mode, Prefetch: &none}
	for _, url := range origins {
		part.Origins = append(part.Origins, &models.ChunkfsOrigin{URL: &url})
	}
	if change != nil {
		change(part)
	}
	return &models.Mount{Kind: "chunkfs", Chunkfs: part}
}

// mount raises a mount, which must work.
func (w *world) mount(img *image, mode string, change func(*models.MountChunkfs), origins ...string) *models.Mount {
	w.t.Helper()
	var m models.Mount
	w.d.Want(http.StatusCreated, http.MethodPost, "/mount", spec(img, mode, change, origins...), &m)
	return &m
}

func (w *world) unmount(m *models.Mount) {
	w.t.Helper()
	var answer json.RawMessage
	status, err := w.d.Call(w.t.Context(), http.MethodDelete, fmt.Sprintf("/mount?id=%d", m.ID), nil, &answer)
	if err != nil || status != http.StatusOK {
		w.t.Fatalf("DELETE of mount %d: %d, %v: %s; it is also mounted for:%s", m.ID, status, err, answer, elsewhere(m.Mountpoint))
	}
}

// elsewhere lists the processes in whose mount namespace something is mounted at path: a program that made a namespace of its own a moment
// ago has copies of all mounts there were, and keeps them in use.
func elsewhere(path string) string {
	infos, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	s := ""
	for _, info := range infos {
		if b, err := os.ReadFile(info); err == nil && strings.Contains(string(b), " "+path+" ") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(info), "cmdline"))
			s += fmt.Sprintf("\n  %s: %.120q", info, line)
		}
	}
	return s
}

// untouched holds that nothing of any mount is left, with the daemon still there.
func (w *world) untouched() {
	w.t.Helper()
	o, err := w.d.List(w.t.Context())
	if err != nil || !o.Empty() {
		w.t.Errorf("listed: %s %v", o, err)
	}
	left := func() []string { return slices.DeleteFunc(w.node.There(), w.own) }
	within(w.t, 5*time.Second, "nothing of a mount is left", func() bool { return len(left()) == 0 })
	for _, line := range left() {
		w.t.Errorf("left: %s", line)
	}
}

// own says whether a line of a difference is of the server and its place, which stay while there is a daemon.
func (w *world) own(line string) bool {
	for _, s := range []string{"windlass-shim keeper --lock", "chunkfs serve --run-dir", w.place.Data(), w.place.Socket(), string(w.place) + "/data.init"} {
		if strings.Contains(line, s) {
			return true
		}
	}
	return strings.Contains(line, "process windlass ") || strings.Contains(line, "/windlass serve ") || strings.Contains(line, w.node.Socket())
}

// status asks what the server says of a mount. On a busy machine the first answer may come too late for who asks first.
func (w *world) status(m *models.Mount) (s *models.ChunkfsStatus) {
	w.t.Helper()
	within(w.t, 20*time.Second, fmt.Sprintf("mount %d has a status", m.ID), func() bool {
		var list []*models.Mount
		w.d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/mount?id=%d", m.ID), nil, &list)
		if len(list) != 1 || list[0].Chunkfs == nil {
			w.t.Fatalf("mount %d is not listed", m.ID)
		}
		s = list[0].Chunkfs.Status
		return s != nil && s.Asked != nil
	})
	return s
}

// complete waits until the whole image is in the cache.
func (w *world) complete(m *models.Mount) {
	w.t.Helper()
	within(w.t, time.Minute, "the image is complete", func() bool { return w.status(m).Complete })
}

// processes are the pids of keeper and server, 0 where there is none.
type processes struct{ keeper, server int }

func (w *world) processes() (p processes) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Error(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		switch cmd := string(line); {
		case !strings.Contains(cmd, string(w.node.Dir)+"\x00"):
		case strings.Contains(cmd, "keeper\x00--lock"):
			p.keeper = pid
		case strings.Contains(cmd, "chunkfs\x00serve\x00"):
			p.server = pid
		}
	}
	return p
}

// awaitServer gives the pid of a server that is not the one before.
func (w *world) awaitServer(t *testing.T, before int) int {
	t.Helper()
	pid := 0
	within(t, 20*time.Second, "another server comes", func() bool {
		pid = w.processes().server
		return pid != 0 && pid != before
	})
	return pid
}

// kill kills a process that is one of the node's.
func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("there is no process to kill")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		t.Fatal(err)
	}
}

// kills is how often the server is killed; long says that the long run was asked for.
func kills(t *testing.T) (n int, long bool) {
	t.Helper()
	s := os.Getenv(LongVar)
	if s == "" {
		return 30, false
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number of kills", LongVar, s)
	}
	return n, true
}
