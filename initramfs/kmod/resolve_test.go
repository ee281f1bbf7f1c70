package kmod

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestWhatAModuleNeedsComesBeforeIt(t *testing.T) {
	for asked, want := range map[string]string{
		"rbd":                              "crc32c_soft crc32c_intel libcrc32c dns_resolver libceph rbd trace_rbd",
		"rbd-dev":                          "crc32c_soft crc32c_intel libcrc32c dns_resolver libceph rbd trace_rbd",
		"libcrc32c":                        "crc32c_soft crc32c_intel libcrc32c",
		"trace-rbd":                        "crc32c_soft crc32c_intel libcrc32c dns_resolver libceph rbd trace_rbd",
		"trace_rbd":                        "crc32c_soft crc32c_intel libcrc32c dns_resolver libceph rbd trace_rbd",
		"pci:v00008086d00004aaasv0000":     "nic", // by the newer one
		"ext4":                             "",
		"fs-ext4":                          "",
		"kernel/net/dns_resolver.ko":       "dns_resolver",
		"drivers/../kernel/fs/x/../one.ko": "",
	} {
		s, err := opened(t, storage(t)).Resolve(Request{Names: []string{asked}})
		if strings.Contains(asked, "..") {
			if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s: got %v", asked, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		if got := names(s); got != want {
			t.Errorf("%s: got %q, want %q", asked, got, want)
		}
	}
}

func TestTheOrderOfNamesDoesNotCount(t *testing.T) {
	asked := []string{"rbd", "nic", "crc32c", "ab", "libcrc32c"}
	first, err := opened(t, storage(t)).Resolve(Request{Names: asked})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(asked)
	second, err := opened(t, storage(t)).Resolve(Request{Names: append(asked, "rbd")})
	if err != nil {
		t.Fatal(err)
	}
	if names(first) != names(second) {
		t.Errorf("%s\n%s", names(first), names(second))
	}
}

func TestWhatCannotBeIsAnErrorForWhoAskedAndANoteElse(t *testing.T) {
	d := opened(t, storage(t))
	for asked, want := range map[string]string{
		"rdb":                "no module rdb, and nothing that answers to this alias",
		"lone":               "module lone needs gone, which is neither in " + d.Path() + " nor built in",
		"one":                "in a circle: one → two → one",
		"kernel/net/nope.ko": "no module kernel/net/nope.ko",
	} {
		if _, err := d.Resolve(Request{Names: []string{asked}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", asked, err)
		}
	}
	_, err := d.Resolve(Request{Names: []string{"rdb"}})
	if hint := fault.HintOf(err); hint != "did you mean rbd?" {
		t.Errorf("the hint is %q", hint)
	}
	s, err := d.Resolve(Request{Wanted: []string{"rdb", "lone", "nic"}})
	if err != nil || names(s) != "nic" || !slices.Equal(s.Missing, []string{"rdb"}) || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "lone needs gone") {
		t.Errorf("got %+v, %v", s, err)
	}
	s, err = d.Resolve(Request{Names: []string{"rbd"}, After: map[string][]string{"rbd": {"nic"}}})
	if err != nil || !strings.HasSuffix(names(s), "rbd trace_rbd nic") || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "nothing answers to none") {
		t.Errorf("got %q %+v, %v", names(s), s, err)
	}
}

func TestAModuleFromElsewhereIsTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own-driver.ko")
	if err := os.WriteFile(file, elf64("depends=libcrc32c", fakeMagic), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := opened(t, storage(t)).Resolve(Request{Names: []string{file}})
	if err != nil || names(s) != "crc32c_soft crc32c_intel libcrc32c own_driver" || s.Modules[3].Plain() != "extra/own-driver.ko" {
		t.Errorf("got %q, %v", names(s), err)
	}
}

func TestADirectoryIsFoundBelowARoot(t *testing.T) {
	dir := storage(t)
	root := t.TempDir()
	if err := os.MkdirAll(root+"/lib/modules", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, root+"/lib/modules/1.2.3-test"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, root + "/lib/modules", root + "/lib/modules/1.2.3-test"} {
		if d, err := Open(path, ""); err != nil || !strings.HasSuffix(d.Path(), "/lib/modules/1.2.3-test") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.MkdirAll(root+"/lib/modules/2.0/kernel", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, ""); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "several kernels") {
		t.Errorf("two kernels: %v", err)
	}
	if d, err := Open(root, "1.2.3-test"); err != nil || !strings.HasSuffix(d.Path(), "1.2.3-test") {
		t.Errorf("the one: %v", err)
	}
	for _, path := range []string{t.TempDir(), "/nonexistent", root + "/lib/modules/2.0"} {
		if _, err := Open(path, ""); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestCompressedModules packs with the programs that distributions use.
func TestCompressedModules(t *testing.T) {
	dir := storage(t)
	for file, with := range map[string][]string{
		"kernel/net/libceph.ko":         {"xz", "--check=crc32", "--lzma2=dict=2MiB"},
		"kernel/net/dns_resolver.ko":    {"zstd", "-19", "--rm", "-q"},
		"kernel/drivers/block/rbd.ko":   {"gzip", "-9"},
		"kernel/crypto/crc32c_soft.ko":  {"xz", "--check=crc32", "--x86", "--lzma2"},
		"kernel/crypto/crc32c-intel.ko": {"zstd", "--ultra", "-22", "--rm", "-q"},
	} {
		if out, err := exec.Command(with[0], append(with[1:], filepath.Join(dir, file))...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", with, err, out)
		}
	}
	s, err := opened(t, dir).Resolve(Request{Names: []string{"rbd"}})
	if err != nil || names(s) != "crc32c_soft crc32c_intel libcrc32c dns_resolver libceph rbd trace_rbd" {
		t.Fatalf("got %q, %v", names(s), err)
	}
	for _, m := range s.Modules {
		data, err := m.Read()
		if err != nil || !bytes.HasPrefix(data, []byte("\x7fELF")) || !strings.HasSuffix(m.Plain(), ".ko") {
			t.Errorf("%s: %d bytes, %v", m.Plain(), len(data), err)
		}
	}
}

func TestDamagedModulesAreNamed(t *testing.T) {
	for name, data := range map[string][]byte{
		"bad.ko":     []byte("no elf"),
		"bad.ko.xz":  []byte("no xz, that is sure"),
		"bad.ko.zst": []byte("no zstd"),
		"bad.ko.gz":  []byte("no gzip, that is sure"),
		"cut.ko":     elf64("depends=")[:100],
		"none.ko":    bytes.Replace(elf64("depends="), []byte(".modinfo"), []byte(".modXXXX"), 1),
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/kernel", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/kernel/"+name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := opened(t, dir).Resolve(Request{All: true})
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAliasesAreMatchedAsModprobeDoes(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"fs-erofs", "fs-erofs", true}, {"fs_erofs", "fs-erofs", true}, {"fs-erofs", "fs_erofs", true}, {"fs-erofs", "fs-erof", false},
		{"pci:v*d*", "pci:v1d2", true}, {"pci:v00001AF4d*sv*", "pci:v00001AF4d00001000sv00001AF4sd1", true}, {"*", "", true}, {"", "", true},
		{"", "a", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"a[0-3]b", "a2b", true}, {"a[0-3]b", "a4b", false},
		{"a[!0-3]b", "a4b", true}, {"a[!0-3]b", "a2b", false}, {"a[_]b", "a-b", false}, {"a[", "a[", true}, {"*a*b*c", "xxaxxbxxc", true},
		{"*a*b*c", "xxaxxbxx", false}, {"of:N*T*Cfoo,bar", "of:NxT(null)Cfoo,bar", true}, {"a*", "b", false}, {"usb:v*[", "usb:v1[", true},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("%q, %q: got %v", c.pattern, c.name, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d[0-9]?", "pci:v1d2a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern)+len(name) < 1<<12 {
			match(pattern, name)
		}
	})
}

func FuzzModule(f *testing.F) {
	f.Add(elf64("depends=a,b-c", "softdep=pre: x post: y", "alias=fs-*", "vermagic=1 SMP"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := section(bytes.NewReader(data), ".modinfo")
		if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Errorf("got %v", err)
		}
		if len(text) > len(data) {
			t.Errorf("%d bytes out of %d", len(text), len(data))
		}
		for _, a := range parseInfo(text).Aliases {
			if strings.ContainsAny(a, " \n\t") {
				t.Errorf("alias %q", a)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00"), 0)
	f.Add([]byte("\x28\xb5\x2f\xfd"), 1)
	f.Add([]byte("\x1f\x8b"), 2)
	f.Fuzz(func(t *testing.T, data []byte, which int) {
		ending := []string{".xz", ".zst", ".gz"}[uint(which)%3]
		if _, err := unpack(io.LimitReader(bytes.NewReader(data), 1<<16), ending); err != nil && !fault.Is(err, fault.Corrupt) {
			t.Errorf("got %v", err)
		}
	})
}
