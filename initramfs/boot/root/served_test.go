package root

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	layer "github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// What the test binary is when it is called so, as the first process of a PID namespace.
const (
	firstProgram = "root-test-first"
	nextProgram  = "init"
	oldRoot      = 100                    // descriptor by which the next one looks at it
	answer       = 101                    // and the one for what it tells: its standard output is the console
	originName   = "origin.windlass.test" // the old root's /etc/hosts alone knows it
)

// order is what the first process is told.
type order struct{ Dir, Image, Mode, Origin string }

// seen is what the next first process tells.
type seen struct {
	Args, Env, Left []string
	Data            string // sum of a file that nobody has read before
	Names           []string
	Killed, Serving int // process of the server
	Mounts          string
}

func TestSwitch(t *testing.T) {
	w := newServed(t)
	for _, mode := range []control.Mode{control.FUSE, control.Lazy} {
		t.Run("the server of the root lives on, mode "+string(mode), func(t *testing.T) { w.livesOn(t, mode) })
	}
	t.Run("nothing is left", w.nothingIsLeft)
}

// livesOn gives a root to a chunkfs image, and kills the server of the image then: the keeper starts it anew out of the old root, where it finds
// all that it needs.
func (w *served) livesOn(t *testing.T, mode control.Mode) {
	got := w.run(t, order{Dir: w.initial(t), Image: "test/1", Mode: string(mode), Origin: w.url})
	if !slices.Equal(got.Args, []string{"/sbin/init", "single"}) || !slices.Equal(got.Env, []string{"HOME=/", "TERM=linux"}) {
		t.Errorf("the next first process has %q and %q", got.Args, got.Env)
	}
	if got.Data != w.sum {
		t.Errorf("the image's file has the sum %s, want %s", got.Data, w.sum)
	}
	if got.Killed == 0 || got.Serving == 0 || got.Killed == got.Serving {
		t.Errorf("the server was %d and is %d", got.Killed, got.Serving)
	}
	if len(got.Names) != 2 || got.Names[0][0] != '@' || got.Names[1][0] != '@' {
		t.Errorf("systemd would end %q at a shutdown", got.Names)
	}
	for _, f := range []string{"bin/windlass", "bin/windlass-shim", "etc/hosts", "etc/kept"} {
		if !slices.Contains(got.Left, f) {
			t.Errorf("%s has gone from the old root, which has %q", f, got.Left)
		}
	}
	for _, f := range []string{"lib/modules/6.1/a.ko", "usr/lib/firmware/b", "bin/" + firstProgram, "bbin/bb", "init"} {
		if slices.Contains(got.Left, f) {
			t.Errorf("%s is left in the old root and takes memory", f)
		}
	}
	if strings.Contains(got.Mounts, " / tmpfs ") {
		t.Errorf("the old root can be seen:\n%s", got.Mounts)
	}
}

// nothingIsLeft gives a root to a file system that needs nobody.
func (w *served) nothingIsLeft(t *testing.T) {
	got := w.run(t, order{Dir: w.initial(t)})
	if len(got.Left) > 0 || got.Data != w.sum {
		t.Errorf("%+v", got)
	}
}

// served is an image, a web server that has it, and what the test runs.
type served struct {
	bin, tree, sum, url string
}

func newServed(t *testing.T) *served {
	t.Helper()
	w := &served{bin: t.TempDir(), tree: t.TempDir()}
	for _, args := range [][]string{{"build", "-o", w.bin + "/", "../../../cmd/windlass", "../../../cmd/windlass-shim"}, {"test", "-c", "-o", w.bin + "/" + firstProgram, "."}} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // there are no libraries in the root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	data := bytes.Repeat([]byte("what nobody has read before, and the cache does not have\n"), 1<<15)
	sum := sha256.Sum256(data)
	w.sum = hex.EncodeToString(sum[:])
	for _, d := range []string{"sbin", "dev", "proc", "sys", "run"} {
		must(t, os.Mkdir(filepath.Join(w.tree, d), 0o755))
	}
	must(t, copyFile(w.bin+"/"+firstProgram, w.tree+"/sbin/init"), os.Chmod(w.tree+"/sbin/init", 0o755), os.WriteFile(w.tree+"/data", data, 0o600))
	dir := t.TempDir()
	src, err := source.Directory(w.tree, source.Options{})
	must(t, err)
	defer src.Close()
	st, err := store.Create(dir + "/store")
	must(t, err)
	o := build.Defaults()
	o.Tag = "test/1"
	_, err = build.Build(t.Context(), src, st, o)
	must(t, err)
	web := httptest.NewServer(http.FileServer(http.Dir(dir + "/store")))
	t.Cleanup(web.Close)
	w.url = strings.Replace(web.URL, "127.0.0.1", originName, 1)
	return w
}

// initial makes what an initramfs holds.
func (w *served) initial(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for file, from := range map[string]string{
		"bin/windlass": w.bin + "/windlass", "bin/windlass-shim": w.bin + "/windlass-shim", "bin/" + firstProgram: w.bin + "/" + firstProgram,
		"lib/modules/6.1/a.ko": "", "usr/lib/firmware/b": "", "bbin/bb": "", "init": "", "etc/kept": "", "etc/hosts": "127.0.0.1 " + originName,
	} {
		to := filepath.Join(dir, file)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		if strings.HasPrefix(from, "/") {
			must(t, copyFile(from, to), os.Chmod(to, 0o755))
		} else {
			must(t, os.WriteFile(to, []byte(from+"\n"), 0o755))
		}
	}
	must(t, os.Mkdir(dir+"/image", 0o755), os.Mkdir(dir+"/dev", 0o755), os.Mkdir(dir+"/tmp", 0o755))
	out, err := exec.Command("cp", "-a", w.tree+"/.", dir+"/image").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// run has it done in namespaces of its own, and gives what is told at the end.
func (w *served) run(t *testing.T, o order) (got seen) {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin+"/"+firstProgram, string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s %s", err, out.String(), errs.String())
	}
	return got
}

// first makes the root of a node, mounts the image in it and gives it the root.
func first() error {
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		return err
	}
	at := o.Dir + ".root"
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), os.Mkdir(at, 0o755), unix.Mount("root", at, "tmpfs", 0, ""))
	if err != nil {
		return err
	}
	if err := errors.Join(move(o.Dir, at), enter(at)); err != nil {
		return err
	}
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/run": "tmpfs"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(kind, dir, kind, 0, "")); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/run/image", 0o755); err != nil {
		return err
	}
	if err := mountImage(o); err != nil {
		return err
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Dup3(int(root.Fd()), oldRoot, 0), unix.Dup3(1, answer, 0)); err != nil {
		return err
	}
	return Switch("/run/image", Next{Program: "/sbin/init", Args: []string{"single"}, Env: []string{"HOME=/", "TERM=linux"}})
}

// mountImage mounts what the order says: a chunkfs, or a tmpfs.
func mountImage(o order) error {
	if o.Origin == "" {
		if err := unix.Mount("image", "/run/image", "tmpfs", 0, ""); err != nil {
			return err
		}
		return move("/image", "/run/image")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s := control.NewStarter(control.StartConfig{RunDir: "/run/windlass", Shim: "/bin/windlass-shim", Server: "/bin/windlass", CacheDir: "/var/cache/windlass", Spared: true})
	defer s.Close()
	spec := &models.Mount{Chunkfs: &models.MountChunkfs{Image: &o.Image, Mode: &o.Mode, Prefetch: new(models.MountChunkfsPrefetchNone), Origins: []*models.ChunkfsOrigin{{URL: &o.Origin}}}}
	d := chunk.New(chunk.Config{Instance: "windlass-roottest", Starter: s, CacheDir: "/var/cache/windlass"})
	_, err := d.Mount(ctx, 1, spec, nil, layer.Target{Dir: "/run/image", Scratch: "/run/scratch"})
	return err
}

// next is the first process of the image.
func next() error {
	os.Stderr = os.NewFile(answer, "answer")
	got := seen{Args: os.Args, Env: os.Environ()}
	keeper, server := find("windlass-shim"), find("windlass")
	got.Killed = server
	if server > 0 {
		if err := unix.Kill(server, unix.SIGKILL); err != nil {
			return err
		}
	}
	data, err := os.ReadFile("/data")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	got.Data = hex.EncodeToString(sum[:])
	if keeper > 0 {
		got.Serving = find("windlass")
		for _, pid := range []int{keeper, got.Serving} {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil {
				return err
			}
			got.Names = append(got.Names, string(name))
		}
	}
	err = fs.WalkDir(os.DirFS(fmt.Sprintf("/proc/self/fd/%d", oldRoot)), ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && slices.Contains([]string{"dev", "proc", "run", "var"}, path) {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			got.Left = append(got.Left, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	got.Mounts = string(mounts)
	return json.NewEncoder(os.Stderr).Encode(got)
}

// find gives the process of a program, 0 when there is none.
func find(program string) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		var pid int
		name, err := os.ReadFile(d + "/comm")
		if err == nil && string(name) == program+"\n" {
			if _, err := fmt.Sscanf(d, "/proc/%d", &pid); err == nil {
				return pid
			}
		}
	}
	return 0
}
