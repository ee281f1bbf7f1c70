package initramfs

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestTheSameInputGivesTheSameBytes from two directories, with another umask, in another order, at another time.
func TestTheSameInputGivesTheSameBytes(t *testing.T) {
	options := func(dir string, modules ...string) Options {
		root := someModules(t, filepath.Join(dir, "root"), "loop", "rbd", "erofs")
		site := write(t, filepath.Join(dir, "site"), map[string]string{"etc/motd": "welcome\n", "etc/ssh/config": "x", "root/.profile": ""})
		own := write(t, filepath.Join(dir, "own"), map[string]string{"w.yaml": "log_level: debug\n", "windlass": static(elf.EM_X86_64), "windlass-shim": static(elf.EM_X86_64)})
		return Options{Windlass: own + "/windlass", Shim: own + "/windlass-shim", Kernel: root + "/vmlinuz", Modules: root, Module: modules,
			Config: []string{own + "/w.yaml"}, Overlay: []string{site}, Time: 1000}
	}
	one := options(filepath.Join(t.TempDir(), "a"), "loop", "rbd", "fs-erofs")
	old := syscall.Umask(0o002)
	other := options(filepath.Join(t.TempDir(), "b"), "fs-erofs", "rbd", "loop", "loop")
	past := time.Unix(12345, 0)
	if err := filepath.WalkDir(filepath.Dir(other.Modules), func(p string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(p, past, past))
	}); err != nil {
		t.Fatal(err)
	}
	syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, c := range Compressions() {
		one.Compress, other.Compress = c, c
		a, b := built(t, one), built(t, other)
		if !same(t, a, b) {
			t.Errorf("%s: the files differ", c)
		}
		if st, err := os.Stat(b); err != nil || st.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", c, st.Mode(), err)
		}
	}
}

// TestOtherProgramsUnpackIt as the kernel would, part after part.
func TestOtherProgramsUnpackIt(t *testing.T) {
	for c, with := range map[Compression][]string{None: {"cat"}, Gzip: {"gzip", "-dc"}, XZ: {"xz", "-dc"}, Zstd: {"zstd", "-dcq"}} {
		o := plain(t)
		o.Compress, o.Only = c, []string{LayerBase}
		file := built(t, o)
		if parts, err := List(t.Context(), file); err != nil || len(parts) != 1 || parts[0].Compress != c {
			t.Errorf("%s: %+v, %v", c, parts, err)
		}
		dir := t.TempDir()
		cmd := exec.Command("sh", "-c", strings.Join(with, " ")+` "$0" | busybox cpio -idm`, file)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput() // zstd complains of the zeros that the kernel wants at the end
		if to, err := os.Readlink(dir + "/init"); err != nil || to != "bin/windlass" {
			t.Errorf("%s: init is %q, %v: %s", c, to, err, out)
		}
		if !same(t, dir+"/bin/windlass", o.Windlass) || !same(t, dir+"/sbin/modprobe", o.Windlass) || !same(t, dir+"/bin/windlass-shim", o.Shim) {
			t.Errorf("%s: the programs differ", c)
		}
	}
}

// TestLayersAreConcatenated however they are compressed.
func TestLayersAreConcatenated(t *testing.T) {
	o := plain(t)
	o.Files = []File{{From: o.Shim, To: "a/x", Mode: 0o4755}, {From: o.Shim, To: "root/y"}}
	all := []byte{}
	for i, c := range append(Compressions(), None) {
		o.Compress, o.Only = c, []string{LayerConfig}
		if i == 0 {
			o.Only = []string{LayerBase}
		}
		data, err := os.ReadFile(built(t, o))
		if err != nil || len(data)%4 != 0 {
			t.Fatalf("%d bytes, %v", len(data), err)
		}
		all = append(all, data...)
	}
	file := filepath.Join(t.TempDir(), "all.img")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	parts, err := List(t.Context(), file)
	var got []Compression
	for _, p := range parts {
		got = append(got, p.Compress)
	}
	if err != nil || !slices.Equal(got, append(Compressions(), None)) {
		t.Errorf("got %v, %v", got, err)
	}
	found := names(t, file)
	for name, want := range map[string]string{"a/x": "urwxr-xr-x", "root": "drwx------", "tmp": "dtrwxrwxrwx", "sbin/modprobe": "Lrwxrwxrwx ../bin/windlass"} {
		if found[name] != want {
			t.Errorf("%s is %q", name, found[name])
		}
	}
}

func TestTheLayerOfModules(t *testing.T) {
	o := plain(t)
	o.Kernel, o.Modules, o.Preset, o.Load = kernelDir(t)+"/vmlinuz", kernelDir(t), kmod.Minimal, []string{"nbd"}
	p, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := p.Layers[1]
	e, ok := l.tree.Get("lib/modules/" + p.Release + "/" + kmod.IndexName)
	if !ok || !strings.Contains(string(e.Data), "\nload nbd\n") || !strings.Contains(string(e.Data), "\n\talias fs-erofs\n") {
		t.Errorf("the index: %.300s", e.Data)
	}
	if err := p.Measure(); err != nil || l.Bytes < 3<<20 || l.Bytes > 10<<20 || p.Modules < 50 || p.Modules > l.Files {
		t.Errorf("got %+v, %d modules, %v", l, p.Modules, err)
	}
}

// TestModulesAreCompressedOneByOne reads back what the node will, and what another loader will.
func TestModulesAreCompressedOneByOne(t *testing.T) {
	const module = "kernel/fs/squashfs/squashfs.ko"
	o := plain(t)
	o.Modules, o.Module = kernelDir(t), []string{"squashfs"}
	for name, c := range map[string]struct {
		change func(*Options)
		ending string
	}{
		"with the base":      {func(*Options) {}, ".zst"},
		"the layer alone":    {func(o *Options) { o.Only = []string{LayerKmod} }, ""},
		"none is asked for":  {func(o *Options) { o.ModuleCompress = None }, ""},
		"zstd is, for alone": {func(o *Options) { o.Only, o.ModuleCompress = []string{LayerKmod}, Zstd }, ".zst"},
	} {
		o := o
		c.change(&o)
		p, err := Prepare(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		tree, root := p.Layers[len(p.Layers)-1].tree, "lib/modules/"+p.Release+"/"
		e, ok := tree.Get(root + module + c.ending)
		if !ok {
			t.Errorf("%s: no %s", name, module+c.ending)
			continue
		}
		data, err := e.Load()
		file := filepath.Join(t.TempDir(), "m.ko"+c.ending)
		if err := errors.Join(err, os.WriteFile(file, data, 0o600)); err != nil {
			t.Fatal(err)
		}
		if plain, err := kmod.ReadPlain(file); err != nil || !bytes.HasPrefix(plain, []byte("\x7fELF")) || c.ending != "" && len(data) > len(plain)*2/3 {
			t.Errorf("%s: %d bytes packed, %d plain, %v", name, len(data), len(plain), err)
		}
		for _, list := range []string{kmod.IndexName, kmod.DepName} {
			if e, _ := tree.Get(root + list); !strings.Contains(string(e.Data), "squashfs/squashfs.ko"+c.ending) {
				t.Errorf("%s: %s is\n%.300s", name, list, e.Data)
			}
		}
	}
	o.ModuleCompress = XZ
	if _, err := Prepare(t.Context(), o); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestModulesOfAnotherKernelAreRefused(t *testing.T) {
	o := plain(t)
	o.Modules, o.Module = someModules(t, t.TempDir(), "loop", "overlay"), []string{"loop"}
	o.Kernel = write(t, t.TempDir(), map[string]string{"vmlinuz": bzImage("5.14.0-1.el9.x86_64")}) + "/vmlinuz"
	_, err := Prepare(context.Background(), o)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "loop.ko is for kernel 6.1") || !strings.Contains(err.Error(), "is kernel 5.14.0-1.el9.x86_64") ||
		!strings.Contains(fault.HintOf(err), "/lib/modules/5.14.0-1.el9.x86_64") {
		t.Errorf("got %v, %s", err, fault.HintOf(err))
	}
	o.Kernel, o.Module = "", []string{"overlya"}
	if _, err := Prepare(context.Background(), o); !fault.Is(err, fault.NotFound) || fault.HintOf(err) != "did you mean overlay?" {
		t.Errorf("got %v, %s", err, fault.HintOf(err))
	}
}

func TestKernelsThatCannotUnpackIt(t *testing.T) {
	for _, c := range []struct {
		release, config string
		with            Compression
		want            string
	}{
		{"4.18.0-553.el8.x86_64", "", Zstd, "older than Linux 5.9"},
		{"4.18.0-553.el8.x86_64", "", XZ, ""},
		{"4.18.0-patched", "CONFIG_RD_ZSTD=y\n", Zstd, ""},
		{"6.1.0-18-amd64", "", Zstd, ""},
		{"6.1.0-18-amd64", "CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n", Zstd, "built without CONFIG_RD_ZSTD"},
		{"6.1.0-18-amd64", "CONFIG_RD_GZIP=y\n", XZ, "built without CONFIG_RD_XZ"},
		{"6.1.0-18-amd64", "CONFIG_X=y\n", None, ""},
	} {
		files := map[string]string{"vmlinuz": bzImage(c.release)}
		if c.config != "" {
			files["config-"+c.release] = c.config
		}
		o := plain(t)
		o.Kernel, o.Compress = write(t, t.TempDir(), files)+"/vmlinuz", c.with
		_, err := Prepare(context.Background(), o)
		if c.want == "" && err != nil || c.want != "" && (!fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestFirmwareIsPackedWhereItIs(t *testing.T) {
	o := plain(t)
	fw := write(t, t.TempDir(), map[string]string{"tigon/tg3.bin": "plain", "tigon/tg3_tso.bin": "packed"})
	if out, err := exec.Command("zstd", "-q", "--rm", fw+"/tigon/tg3_tso.bin").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.Modules, o.Module, o.Firmware = someModules(t, t.TempDir(), "tg3"), []string{"tg3"}, fw
	found := names(t, built(t, o))
	if found["lib/firmware/tigon/tg3.bin"] == "" || found["lib/firmware/tigon/tg3_tso.bin"] == "" || found["lib/firmware/tigon/tg3_tso5.bin"] != "" {
		t.Errorf("got %v", found)
	}
}

func TestTheSitesFiles(t *testing.T) {
	o := plain(t)
	site := write(t, t.TempDir(), map[string]string{"etc/motd": "first", "opt/run.sh": "#!", "etc/windlass/credentials/k": "s"})
	for name, mode := range map[string]os.FileMode{"opt/run.sh": 0o775, "etc/windlass/credentials/k": 0o600, "etc/motd": 0o664} {
		if err := os.Chmod(filepath.Join(site, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("/nowhere", site+"/link"), syscall.Mkfifo(site+"/fifo", 0o600)); err != nil {
		t.Fatal(err)
	}
	own := write(t, t.TempDir(), map[string]string{"w.yaml": "port: 81\n", "def.yaml": "x"})
	o.Overlay, o.Config, o.Files = []string{site}, []string{own + "/w.yaml", own + "/def.yaml"}, []File{{From: own + "/def.yaml", To: "etc/motd"}}
	file := built(t, o)
	found := names(t, file)
	for name, want := range map[string]string{
		"etc/motd": "-rw-r--r--", "opt/run.sh": "-rwxr-xr-x", "etc/windlass/credentials/k": "-rw-------", "link": "Lrwxrwxrwx /nowhere",
		"fifo": "prw-------", "etc/windlass/windlass.yaml": "-rw-r--r--", "etc/windlass/def.yaml": "-rw-r--r--",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, not %q", name, found[name], want)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode() != 0o600 {
		t.Errorf("an initramfs with a secret: %v, %v", st.Mode(), err)
	}
	l, err := net.Listen("unix", site+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Prepare(context.Background(), o); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "is a socket") {
		t.Errorf("a socket: %v", err)
	}
}

func TestMistakesAreToldBeforeAnythingIsWritten(t *testing.T) {
	bad := write(t, t.TempDir(), map[string]string{"w.yaml": "prot: 80\n", "ca.pem": "no", "arm": static(elf.EM_AARCH64), "nokernel": strings.Repeat("x", 5000)})
	kernel := write(t, t.TempDir(), map[string]string{"vmlinuz": bzImage("6.1.0")}) + "/vmlinuz"
	for want, change := range map[string]func(*Options){
		"needs libraries":             func(o *Options) { o.Windlass = "/bin/sh" },
		"is for EM_AARCH64":           func(o *Options) { o.Shim, o.Kernel = bad+"/arm", kernel },
		"windlass: open":              func(o *Options) { o.Windlass = "/nonexistent" },
		"did you mean port":           func(o *Options) { o.Config = []string{bad + "/w.yaml"} },
		"no certificate":              func(o *Options) { o.CA = bad + "/ca.pem" },
		"no kernel of a sort":         func(o *Options) { o.Kernel = bad + "/nokernel" },
		"no layer \"bas\"":            func(o *Options) { o.Only = []string{"bas"} },
		"no compression \"rar\"":      func(o *Options) { o.Compress = "rar" },
		"no level 30":                 func(o *Options) { o.Compress, o.Level = Zstd, 30 },
		"not where they are":          func(o *Options) { o.Module = []string{"loop"} },
		"the layer config would be":   func(o *Options) { o.Only = []string{LayerConfig} },
		"no directory of firmware":    func(o *Options) { o.Modules, o.Module, o.Firmware = kernelDir(t), []string{"tg3"}, "/nonexistent" },
		"is no file":                  func(o *Options) { o.Files = []File{{From: "/tmp", To: "x"}} },
		"is no directory":             func(o *Options) { o.Overlay = []string{"/nonexistent"} },
		"there is no kernel module":   func(o *Options) { o.Modules, o.Module = t.TempDir(), []string{"x"} },
		"no name for a file of an in": func(o *Options) { o.Files = []File{{From: bad + "/arm", To: "../x"}} },
	} {
		o := plain(t)
		change(&o)
		if _, err := Prepare(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for _, text := range []string{"", "a", ":b", "a:", "a:/", "a:b:c", "a:b:0", "a:b:99999", "a:b:1:2"} {
		if _, err := ParseFile(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestABuildThatFailsLeavesWhatWasThere(t *testing.T) {
	o := plain(t)
	data := write(t, t.TempDir(), map[string]string{"x": "text"})
	o.Files = []File{{From: data + "/x", To: "x"}}
	p, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, t.TempDir(), map[string]string{"out.img": "old"})
	ended, end := context.WithCancel(context.Background())
	end()
	if _, err := p.Write(ended, dir+"/out.img", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if err := os.Remove(data + "/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(context.Background(), dir+"/out.img", nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "layer config: pack x") {
		t.Errorf("a file that has gone: %v", err)
	}
	if _, err := p.Write(context.Background(), dir, nil); !fault.Is(err, fault.Exists) {
		t.Errorf("a directory: %v", err)
	}
	left, err := os.ReadDir(dir)
	if text, _ := os.ReadFile(dir + "/out.img"); err != nil || string(text) != "old" || len(left) != 1 {
		t.Errorf("%q, %v, %v", text, left, err)
	}
}

func TestToolsAreAppendedOrUnpacked(t *testing.T) {
	o := plain(t)
	o.Compress = Gzip
	p, err := Tools(o, true)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tools.img")
	if _, err := p.Write(context.Background(), file, nil); err != nil {
		t.Fatal(err)
	}
	found := names(t, file)
	if len(found) != 8 || found["bin/imageapi-server"] != "Lrwxrwxrwx windlass" || found["bbin/imageapi-server"] != "Lrwxrwxrwx ../bin/windlass" || found["sbin/modprobe"] != "Lrwxrwxrwx ../bin/windlass" {
		t.Errorf("got %v", found)
	}
	dir := t.TempDir()
	for range 2 {
		if err := p.Unpack(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(dir + "/bin/imageapi-server"); err != nil || st.Mode() != 0o755 || !same(t, dir+"/bin/imageapi-server", o.Windlass) {
		t.Errorf("got %v, %v", st, err)
	}
}
