package chunk_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

// configVar tells a process that is to be killed how its server is started.
const configVar = "WINDLASS_CHUNKTEST"

func TestMain(m *testing.M) {
	mounttest.Main(m, func() mount.Driver { return newReal().driver })
}

// real is a driver with the real server.
type real struct {
	cfg     control.StartConfig
	starter *control.Starter
	driver  *chunk.Driver
}

func newReal() real {
	var r real
	if err := json.Unmarshal([]byte(os.Getenv(configVar)), &r.cfg); err != nil {
		panic(configVar + ": " + err.Error())
	}
	r.starter = control.NewStarter(r.cfg)
	r.driver = chunk.New(chunk.Config{Instance: "windlass-chunktest", Starter: r.starter, CacheDir: r.cfg.CacheDir})
	return r
}

// begin makes a place for a server, with its cache in cacheDir, that is gone when the test ends.
func begin(t *testing.T, cacheDir string) real {
	t.Helper()
	programs := daemon.Build(t)
	cfg, err := json.Marshal(control.StartConfig{RunDir: t.TempDir(), Shim: programs.Shim, Server: programs.Windlass, CacheDir: filepath.Join(cacheDir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(configVar, string(cfg))
	r := newReal()
	t.Cleanup(func() {
		r.starter.Close()
		for deadline := time.Now().Add(20 * time.Second); r.starter.Alive(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(r.starter.Place().Log())
				t.Errorf("the server goes on although nobody needs it:\n%s", log)
				r.killAll(t)
				break
			}
		}
		mounttest.NoLeak(t, r.cfg.RunDir)
		if ids, err := r.driver.List(t.Context()); err != nil || len(ids) > 0 {
			t.Errorf("the server left records of %v, %v", ids, err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(r.starter.Place().Log())
			t.Logf("the server said:\n%s", log)
		}
	})
	return r
}

// published builds an image of mounttest's files and one larger file, and serves its store.
func published(t testing.TB) (url string) {
	t.Helper()
	tree, dir := mounttest.Tree(t), filepath.Join(t.TempDir(), "store")
	mounttest.Write(t, tree, map[string]string{"large": large()})
	src, err := source.Directory(tree, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	st, err := store.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := build.Defaults()
	o.Tag = "test"
	if _, err := build.Build(t.Context(), src, st, o); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(web.Close)
	return web.URL
}

// large is a file of several chunks.
func large() string {
	var b strings.Builder
	for n := range 200_000 {
		b.WriteString(time.Unix(int64(n)*7919, 0).UTC().Format(time.RFC3339))
	}
	return b.String()
}

func realSpec(url, mode string) *models.Mount {
	return spec(func(p *models.MountChunkfs) {
		p.Image, p.Origins[0].URL, p.Mode = ref("test"), &url, &mode
	})
}

func TestDriver(t *testing.T) {
	t.Cleanup(daemon.Clean)
	for _, mode := range []string{"direct", "lazy", "fuse"} {
		t.Run(mode, func(t *testing.T) { conform(t, mode, t.TempDir()) })
	}
	t.Run("lazy, from loop devices", func(t *testing.T) { conform(t, "lazy", tmpfs(t)) })
	t.Run("a server that is killed", killedServer)
	t.Run("server and keeper killed", killedBoth)
	t.Run("a server that hangs", hangingServer)
	t.Run("an origin that does not come back", withoutOrigin)
}

func conform(t *testing.T, mode, cacheDir string) {
	r := begin(t, cacheDir)
	url := published(t)
	files := mounttest.Files()
	files["large"] = large()
	mounttest.Run(t, mounttest.Suite{
		New:     func() mount.Driver { return r.driver },
		Make:    func(testing.TB) mounttest.Case { return mounttest.Case{Spec: realSpec(url, mode), Files: files} },
		Hostile: func(t testing.TB) []mounttest.Hostile { return hostile(t, url, mode) },
	})
}

func hostile(t testing.TB, url, mode string) []mounttest.Hostile {
	with := func(change func(*models.MountChunkfs)) *models.Mount {
		m := realSpec(url, mode)
		change(m.Chunkfs)
		return m
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome")) }))
	t.Cleanup(page.Close)
	return []mounttest.Hostile{
		{What: "nothing", Kind: fault.Invalid, Says: "chunkfs is missing"},
		{What: "no such tag", Spec: with(func(p *models.MountChunkfs) { p.Image = ref("none") }), Kind: fault.NotFound, Says: "none"},
		{What: "another image", Spec: with(func(p *models.MountChunkfs) { p.Digest = "blake3:" + strings.Repeat("0", 64) }), Kind: fault.Corrupt, Says: "blake3:000"},
		{What: "no store", Spec: with(func(p *models.MountChunkfs) { p.Origins[0].URL = &page.URL }), Kind: fault.Backend, Says: "not a digest"},
	}
}

// running gives the pids of keeper and server.
func (r real) running(t *testing.T) (keeper, server int) {
	t.Helper()
	keeper, server = r.processes(t)
	if keeper == 0 || server == 0 {
		t.Fatalf("keeper %d, server %d", keeper, server)
	}
	return keeper, server
}

// processes looks for keeper and server; 0 is the pid of one that there is not.
func (r real) processes(t *testing.T) (keeper, server int) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range procs {
		cmd, _ := os.ReadFile(path)
		if !strings.Contains(string(cmd), r.cfg.RunDir+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if strings.Contains(string(cmd), "keeper\x00--lock") {
			keeper = pid
		} else if strings.Contains(string(cmd), "chunkfs\x00serve\x00") {
			server = pid
		}
	}
	return keeper, server
}

// killAll ends what a test that failed has left.
func (r real) killAll(t *testing.T) {
	t.Helper()
	keeper, server := r.processes(t)
	for _, pid := range []int{keeper, server} {
		if pid != 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// killedServer kills the server under readers, and while a mount is taken down.
func killedServer(t *testing.T) {
	r := begin(t, t.TempDir())
	url := published(t)
	for _, mode := range []string{"lazy", "fuse"} {
		target := mounttest.Place(t)
		a, err := r.driver.Mount(t.Context(), 1, realSpec(url, mode), nil, target)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got, err := os.ReadFile(filepath.Join(target.Dir, "large")); err != nil || string(got) != large() {
					t.Errorf("%s: read %d bytes, %v", mode, len(got), err)
				}
			})
		}
		_, server := r.running(t)
		if err := unix.Kill(server, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if found, state, err := r.driver.Probe(t.Context(), 1, nil, target); err != nil || state != mount.Ready || found != a {
			t.Errorf("%s: probe after the kill: state %d, %+v, %v", mode, state, found, err)
		}
		r.driver.Refresh(t.Context(), []mount.ID{1})
		if _, server = r.running(t); unix.Kill(server, unix.SIGKILL) != nil {
			t.Error("the server that was started again has gone")
		}
		if err := r.driver.Unmount(t.Context(), a, false); err != nil {
			t.Errorf("%s: unmount after the kill: %v", mode, err)
		}
	}
}

// killedBoth kills keeper and server: what they served is dead, is told to be, and can be taken away and mounted again.
func killedBoth(t *testing.T) {
	r := begin(t, t.TempDir())
	url := published(t)
	for _, mode := range []string{"direct", "lazy", "fuse"} {
		target := mounttest.Place(t)
		a, err := r.driver.Mount(t.Context(), 1, realSpec(url, mode), nil, target)
		if err != nil {
			t.Fatal(err)
		}
		keeper, server := r.running(t)
		for _, pid := range []int{keeper, server} {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for r.starter.Alive() {
			time.Sleep(time.Millisecond)
		}
		want := mount.Partial
		if mode == "direct" {
			want = mount.Ready
			if got, err := os.ReadFile(filepath.Join(target.Dir, "large")); err != nil || string(got) != large() {
				t.Errorf("direct: read %d bytes, %v", len(got), err)
			}
		}
		if _, state, err := r.driver.Probe(t.Context(), 1, nil, target); err != nil || state != want {
			t.Errorf("%s: probe: state %d, %v, want %d", mode, state, err, want)
		}
		if err := r.driver.Unmount(t.Context(), a, false); err != nil {
			t.Errorf("%s: unmount: %v", mode, err)
		}
		if _, state, err := r.driver.Probe(t.Context(), 1, nil, target); err != nil || state != mount.Gone {
			t.Errorf("%s: probe at the end: state %d, %v", mode, state, err)
		}
		if at, err := fsmount.At(target.Dir); err != nil || at != nil {
			t.Errorf("%s: still mounted: %+v, %v", mode, at, err)
		}
	}
	if infos, err := mountinfo.Below(r.cfg.RunDir); err != nil || len(infos) > 1 {
		t.Errorf("%d mounts in the run directory, %v", len(infos), err)
	}
}

// hangingServer stops the server, so that it answers nobody: unmounting waits for it no longer than it is told to.
func hangingServer(t *testing.T) {
	r := begin(t, t.TempDir())
	url := published(t)
	for _, mode := range []string{"lazy", "fuse"} {
		target := mounttest.Place(t)
		a, err := r.driver.Mount(t.Context(), 1, realSpec(url, mode), nil, target)
		if err != nil {
			t.Fatal(err)
		}
		_, server := r.running(t)
		signal(t, server, unix.SIGSTOP)
		unmount := func(force bool) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return r.driver.Unmount(ctx, a, force)
		}
		if mode == "lazy" {
			if err := unmount(false); !fault.Is(err, fault.Timeout) {
				t.Errorf("lazy: unmount: %v (%s), want a timeout", err, fault.KindOf(err))
			}
		} else {
			reader := make(chan error, 1)
			go func() {
				_, err := os.ReadFile(filepath.Join(target.Dir, "large"))
				reader <- err
			}()
			if err := unmount(true); err != nil {
				t.Errorf("fuse: unmount by force: %v", err)
			}
			select {
			case err := <-reader:
				if err == nil {
					t.Error("fuse: who read has got what nobody could serve")
				}
			case <-time.After(20 * time.Second):
				t.Error("fuse: who read waits still")
			}
		}
		if at, err := fsmount.At(target.Dir); err != nil || at != nil {
			t.Errorf("%s: still mounted: %+v, %v", mode, at, err)
		}
		signal(t, server, unix.SIGCONT)
		if err := r.driver.Unmount(t.Context(), a, false); err != nil { // what is left of it goes now
			t.Errorf("%s: unmount again: %v", mode, err)
		}
		if _, state, err := r.driver.Probe(t.Context(), 1, nil, target); err != nil || state != mount.Gone {
			t.Errorf("%s: probe at the end: state %d, %v", mode, state, err)
		}
	}
}

func signal(t *testing.T, pid int, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
