package kmod

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// elf64 makes the smallest module: an ELF file whose only section with content is .modinfo.
func elf64(fields ...string) []byte {
	info := strings.Join(fields, "\x00") + "\x00"
	names := "\x00.shstrtab\x00.modinfo\x00"
	var b bytes.Buffer
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	table := uint64(64 + len(info) + len(names))
	binary.LittleEndian.PutUint64(head[40:], table)
	for at, v := range map[int]uint16{16: 1, 18: 62, 52: 64, 58: 64, 60: 3, 62: 1} {
		binary.LittleEndian.PutUint16(head[at:], v)
	}
	b.Write(head)
	b.WriteString(info + names)
	entry := func(name uint32, offset, size int) {
		e := make([]byte, 64)
		binary.LittleEndian.PutUint32(e, name)
		binary.LittleEndian.PutUint64(e[24:], uint64(offset))
		binary.LittleEndian.PutUint64(e[32:], uint64(size))
		b.Write(e)
	}
	entry(0, 0, 0)
	entry(1, 64+len(info), len(names))
	entry(11, 64, len(info))
	return b.Bytes()
}

// fakeMagic is the version of the kernel that fake modules are for.
const fakeMagic = "vermagic=1.2.3-test SMP mod_unload "

// fakeDir writes modules and gives the directory. Keys are files, values their fields, separated by |.
func fakeDir(t *testing.T, modules map[string]string, lists map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "1.2.3-test")
	write := func(name string, data []byte) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range modules {
		write(name, elf64(append(strings.Split(text, "|"), fakeMagic)...))
	}
	for name, text := range lists {
		write(name, []byte(text))
	}
	return dir
}

// storage is a directory with dependencies of all sorts.
func storage(t *testing.T) string {
	return fakeDir(t, map[string]string{
		"kernel/lib/libcrc32c.ko":        "depends=|softdep=pre: crc32c",
		"kernel/crypto/crc32c-intel.ko":  "depends=|alias=crc32c|alias=crypto-crc32c",
		"kernel/crypto/crc32c_soft.ko":   "depends=|alias=crc32c|alias=crypto-crc32c",
		"kernel/net/libceph.ko":          "depends=libcrc32c,dns-resolver",
		"kernel/net/dns_resolver.ko":     "depends=",
		"kernel/drivers/block/rbd.ko":    "depends=libceph|alias=rbd-dev|softdep=post: trace-rbd none",
		"kernel/drivers/trace-rbd.ko":    "depends=rbd",
		"kernel/drivers/net/nic.ko":      "depends=|alias=pci:v00008086d0000[1-3]*sv*|firmware=nic/fw.bin",
		"kernel/fs/lone.ko":              "depends=gone",
		"kernel/fs/one.ko":               "depends=two",
		"kernel/fs/two.ko":               "depends=one",
		"updates/drivers/net/nic.ko":     "depends=|alias=pci:v00008086d0000[1-4]*sv*|description=newer",
		"weak-updates/drivers/net/ab.ko": "depends=|vermagic=0.9 SMP",
	}, map[string]string{
		"modules.order":           "kernel/crypto/crc32c_soft.ko\nkernel/crypto/crc32c-intel.ko\n",
		"modules.builtin":         "kernel/fs/ext4/ext4.ko\n",
		"modules.builtin.modinfo": "ext4.alias=fs-ext4\x00ext4.license=GPL\x00",
	})
}

func opened(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func names(s *Set) string {
	var list []string
	for _, m := range s.Modules {
		list = append(list, m.Name)
	}
	return strings.Join(list, " ")
}
