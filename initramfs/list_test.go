package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"debug/elf"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// archive is a small one.
func archive(t testing.TB) []byte {
	t.Helper()
	var tree cpio.Tree
	var b bytes.Buffer
	if err := errors.Join(tree.File("a/b", 0o644, bytes.Repeat([]byte("text "), 100_000)), tree.Link("c", "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Write(&b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPartsOfOtherProgramsAreListed packed by the programs that distributions build an initramfs with, one after the other.
func TestPartsOfOtherProgramsAreListed(t *testing.T) {
	var all bytes.Buffer
	for _, with := range [][]string{{"cat"}, {"gzip", "-9n"}, {"xz", "--check=crc32"}, {"xz", "-9", "--check=crc32", "--lzma2=dict=1MiB"}, {"zstd", "-q", "-19"},
		{"zstd", "-q", "-1", "--no-check"}, {"zstd", "-q", "--ultra", "-22", "--long=27"}, {"cat"}} {
		cmd := exec.Command(with[0], with[1:]...)
		cmd.Stdin, cmd.Stdout = bytes.NewReader(archive(t)), &all
		if err := cmd.Run(); err != nil {
			t.Fatalf("%q: %v", with, err)
		}
		for all.Len()%4 != 0 {
			all.WriteByte(0)
		}
	}
	parts, err := list(&all)
	if err != nil || len(parts) != 8 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	for i, p := range parts {
		if len(p.Entries) != 3 || p.Bytes != int64(len(archive(t))) && p.Compress != None || i > 0 && p.Offset < parts[i-1].Offset+parts[i-1].Stored {
			t.Errorf("part %d: %d files, %d bytes at %d", i, len(p.Entries), p.Bytes, p.Offset)
		}
	}
}

func TestWhatIsNoInitramfsIsTold(t *testing.T) {
	good := archive(t)
	for what, data := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 100), "text": []byte("some text that is no archive"), "cut": good[:1000],
		"rubbish behind": append(bytes.Clone(good), "rubbish!"...), "gzip": []byte("\x1f\x8b\x08 is only the beginning"),
		"xz": []byte("\xfd7zXZ\x00 and no more"), "zstd": []byte("\x28\xb5\x2f\xfd and no more"),
	} {
		if _, err := list(bytes.NewReader(data)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if _, err := List(t.Context(), "/nonexistent"); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := List(t.Context(), "/dev/zero"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("got %v", err)
	}
}

// TestListingEndsWithItsContext has a file that would take hours.
func TestListingEndsWithItsContext(t *testing.T) {
	file := filepath.Join(t.TempDir(), "zeros")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 8<<40)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := List(ctx, file); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte("070701"))
	for _, c := range Compressions() {
		var b bytes.Buffer
		w, err := c.writer(&b, 0)
		if err != nil {
			f.Fatal(err)
		}
		var tree cpio.Tree
		if err := tree.File("a", 0o644, []byte("text")); err != nil {
			f.Fatal(err)
		}
		if _, err := tree.Write(w, 0); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := list(io.LimitReader(bytes.NewReader(data), 1<<16)); err != nil && !fault.Is(err, fault.Corrupt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestKernelsSayWhatTheyAre(t *testing.T) {
	var image bytes.Buffer
	z := gzip.NewWriter(&image)
	body := strings.Repeat("x", 3<<20) + "Linux version %s\x00" + strings.Repeat("y", 999) + "Linux version 6.12.9-arm64 (x@y) #1" + strings.Repeat("z", 999)
	if _, err := io.WriteString(z, body); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dir := write(t, t.TempDir(), map[string]string{"Image.gz": image.String(), "Image": strings.Repeat("\x00", 56) + "ARM\x64" + body,
		"old": bzImage("4.18.0-553.el8.x86_64")})
	debian, err := filepath.Glob(kernelDir(t) + "/lib/modules/*")
	if err != nil || len(debian) != 1 {
		t.Fatal(debian, err)
	}
	for file, want := range map[string]Kernel{
		kernelDir(t) + "/vmlinuz": {Release: filepath.Base(debian[0]), Machine: elf.EM_X86_64},
		kernelDir(t) + "/vmlinux": {Release: filepath.Base(debian[0]), Machine: elf.EM_X86_64},
		dir + "/Image.gz":         {Release: "6.12.9-arm64", Machine: elf.EM_AARCH64},
		dir + "/Image":            {Release: "6.12.9-arm64", Machine: elf.EM_AARCH64},
		dir + "/old":              {Release: "4.18.0-553.el8.x86_64", Machine: elf.EM_X86_64},
	} {
		k, err := ReadKernel(file)
		if err != nil || k.Release != want.Release || k.Machine != want.Machine {
			t.Errorf("%s: got %+v, %v", file, k, err)
		}
	}
	if err := os.WriteFile(dir+"/none", []byte(strings.Repeat("\x00", 56)+"ARM\x64"+strings.Repeat("Linux version ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKernel(dir + "/none"); !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

func FuzzKernel(f *testing.F) {
	f.Add([]byte(bzImage("6.1")))
	f.Add([]byte("\x7fELF Linux version 6"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := identify(data[:min(len(data), 64<<10)], bytes.NewReader(data)); err == nil && k.Release == "" {
			t.Error("a kernel without a version")
		}
	})
}
