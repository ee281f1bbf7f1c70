package initramfs

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
)

// write writes files below dir, with the directories that they need, and gives dir.
func write(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// static is the head of a program without libraries, which is all that is looked at.
func static(machine elf.Machine) string {
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	for at, v := range map[int]uint16{16: 2, 18: uint16(machine), 20: 1, 52: 64, 54: 56, 58: 64} {
		binary.LittleEndian.PutUint16(head[at:], v)
	}
	return string(head) + strings.Repeat("program ", 5000)
}

// bzImage is the head of an x86 kernel.
func bzImage(release string) string {
	head := make([]byte, 0x400)
	copy(head[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(head[0x20e:], 0x100)
	copy(head[0x300:], release+" (somebody@somewhere) #1 SMP")
	return string(head)
}

// kernelDir is Debian's kernel, which test/kernel.sh has fetched.
func kernelDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(cmp.Or(os.Getenv("WINDLASS_CACHE"), "/var/cache/windlass-test"), "kernel")
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err != nil {
		t.Fatalf("Debian's kernel is needed, which test/kernel.sh fetches: %v", err)
	}
	return dir
}

// someModules copies modules of Debian's kernel, with what they need, and gives a root with them and the kernel.
func someModules(t *testing.T, dir string, names ...string) string {
	t.Helper()
	d, err := kmod.Open(kernelDir(t), "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Resolve(kmod.Request{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	into := filepath.Join("lib/modules", filepath.Base(d.Path()))
	for _, m := range s.Modules {
		data, err := m.Read()
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(into, m.Path)] = string(data)
	}
	for _, list := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		data, err := os.ReadFile(filepath.Join(d.Path(), list))
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(into, list)] = string(data)
	}
	kernel, err := os.ReadFile(filepath.Join(kernelDir(t), "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	files["vmlinuz"] = string(kernel)
	return write(t, dir, files)
}

// plain are options for a base alone.
func plain(t *testing.T) Options {
	t.Helper()
	dir := write(t, t.TempDir(), map[string]string{"windlass": static(elf.EM_X86_64), "windlass-shim": static(elf.EM_X86_64)})
	return Options{Windlass: dir + "/windlass", Shim: dir + "/windlass-shim", Compress: None}
}

// built builds and gives the file.
func built(t *testing.T, o Options) string {
	t.Helper()
	p, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "initramfs.img")
	n, err := p.Write(context.Background(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Size() != n {
		t.Fatalf("%d bytes are told: %v, %v", n, st, err)
	}
	return file
}

// names lists the files of an initramfs; a later one takes the place of an earlier one.
func names(t *testing.T, file string) map[string]string {
	t.Helper()
	parts, err := List(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, p := range parts {
		for _, h := range p.Entries {
			found[h.Name] = h.FileMode().String()
			if len(h.Data) > 0 {
				found[h.Name] += " " + string(h.Data)
			}
		}
	}
	return found
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(one, other)
}
