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
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// What the test binary is when it is called so, as the first process of a PID namespace.
const (
	firstProgram = "root-test-first"
	nextProgram  = "init"
	oldRoot      = 100                    // descriptor by which the next one looks at it
	originName   = "origin.windlass.test" // the old root's /etc/hosts alone knows it
)

// order is what the first process is told.
type order struct{ Dir, Image, Origin string }

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
	t.Run("the server of the root lives on", w.livesOn)
	t.Run("nothing is left", w.nothingIsLeft)
}

// livesOn gives a root to a chunkfs image, and kills the server of the image then: the keeper starts it anew out of the old root, where it finds
// all that it needs.
func (w *served) livesOn(t *testing.T) {
	got := w.run(t, order{Dir: w.initial(t), Image: "test/1", Origin: w.url})
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
	for _, fs := range []string{"proc", "run", "dev"} {
		kind := map[bool]string{true: "proc", false: "tmpfs"}[fs == "proc"]
		if err := errors.Join(os.MkdirAll("/"+fs, 0o755), unix.Mount(fs, "/"+fs, kind, 0, "")); err != nil {
			return err
		}
	}
	for name, minor := range map[string]uint32{"null": 1<<8 | 3, "urandom": 1<<8 | 9, "fuse": 10<<8 | 229} {
		if err := unix.Mknod("/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(minor>>8, minor&0xff))); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/run/image", 0o755); err != nil {
		return err
	}
	if err := mountImage(o); err != nil {
		return err
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Dup3(fd, oldRoot, 0)
	}
	if err != nil {
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
	server, err := s.Server(ctx)
	if err != nil {
		return err
	}
	_, err = server.Open(ctx, control.Open{ID: "1", Target: "/run/image", Image: o.Image, Origins: []origin.Config{{URL: o.Origin}},
		Mode: control.FUSE, Verify: true, Prefetch: control.PrefetchNone, Role: "default"})
	return err
}

// next is the first process of the image.
func next() error {
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
	return json.NewEncoder(os.Stdout).Encode(got)
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
