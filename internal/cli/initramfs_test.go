package cli

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// initramfsOf runs `windlass initramfs …` with programs that stand in for those of the node.
func initramfsOf(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	return run(t, env, nil, append([]string{"windlass", "initramfs"}, args...)...)
}

// nodePrograms writes what is looked at of two static programs, and gives the flags that name them.
func nodePrograms(t *testing.T) []string {
	t.Helper()
	head := make([]byte, 64)
	copy(head, "\x7fELF\x02\x01\x01")
	for at, v := range map[int]byte{16: 2, 18: 62, 20: 1, 52: 64, 54: 56, 58: 64} {
		head[at] = v
	}
	dir := t.TempDir()
	for _, name := range []string{"windlass", "windlass-shim"} {
		if err := os.WriteFile(filepath.Join(dir, name), head, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--windlass", dir + "/windlass"} // the shim is found beside it
}

func debianKernel() string {
	return filepath.Join(cmp.Or(os.Getenv("WINDLASS_CACHE"), "/var/cache/windlass-test"), "kernel")
}

func TestAnInitramfsIsBuiltAndListed(t *testing.T) {
	out := filepath.Join(t.TempDir(), "initramfs.img")
	config := filepath.Join(t.TempDir(), "w.yaml")
	if err := os.WriteFile(config, []byte("port: 81\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append(nodePrograms(t), "--kernel", debianKernel()+"/vmlinuz", "--modules", debianKernel(), "--preset", "none", "--module", "fs-squashfs",
		"--load", "loop", "--config", config, "--file", config+":/opt/x:0755")
	r := initramfsOf(t, map[string]string{"SOURCE_DATE_EPOCH": "1000"}, append([]string{"build", "-o", out}, args...)...)
	if r.want(t, 0, ""); !strings.Contains(r.out, "LAYER ") || !strings.Contains(r.out, "\nkmod ") || !strings.Contains(r.out, "2 modules") ||
		!strings.Contains(r.out, "file    "+out) {
		t.Errorf("build: %s%s", r.out, r.err)
	}
	r = initramfsOf(t, nil, "ls", out)
	if r.want(t, 0, ""); !strings.Contains(r.out, "init -> bin/windlass") || !strings.Contains(r.out, "5:1 dev/console") ||
		!strings.Contains(r.out, "/squashfs.ko.zst\n") || !strings.Contains(r.out, "-rwxr-xr-x 0:0         9 opt/x") || strings.Contains(r.out, "erofs") {
		t.Errorf("ls: %s", r.out)
	}
	r = initramfsOf(t, nil, "ls", out, "-q")
	if r.want(t, 0, ""); !strings.Contains(r.out, "\nusr/sbin/modprobe\n") {
		t.Errorf("ls -q: %s", r.out)
	}
	var parts []listedPart
	r = initramfsOf(t, nil, "ls", out, "--parts", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &parts); err != nil || len(parts) != 3 || parts[2].Compress != "zstd" || parts[0].Layer+parts[1].Layer+parts[2].Layer != "basekmodconfig" || parts[0].Count < 20 {
		t.Errorf("ls --parts: %+v, %v", parts, err)
	}
	var answer packed
	r = initramfsOf(t, nil, append([]string{"build", "--dry-run", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || answer.Modules != 2 || answer.File != "" || len(answer.Layers) != 3 {
		t.Errorf("--dry-run: %+v, %v", answer, err)
	}
}

func TestToolsForAnotherInit(t *testing.T) {
	dir := t.TempDir()
	initramfsOf(t, nil, append([]string{"tools", "-o", dir}, nodePrograms(t)...)...).want(t, 0, "")
	if to, err := os.Readlink(dir + "/bin/imageapi-server"); err != nil || to != "windlass" {
		t.Errorf("%q, %v", to, err)
	}
	initramfsOf(t, nil, append([]string{"tools", "-o", dir + "/t.img"}, nodePrograms(t)...)...).want(t, 0, "")
	if r := initramfsOf(t, nil, "ls", "-q", dir+"/t.img"); r.out != "bbin\nbbin/imageapi-server\nbin\nbin/imageapi-server\nbin/windlass\nbin/windlass-shim\n" {
		t.Errorf("got %q", r.out)
	}
}

func TestMistakesWithAnInitramfsSayWhatToDo(t *testing.T) {
	programs := nodePrograms(t)
	for _, c := range []struct {
		args []string
		env  map[string]string
		code int
		text string
	}{
		{[]string{"build"}, nil, exitUsage, "-o FILE"},
		{[]string{"build", "-o", "x", "--preset", "hcp"}, nil, exitUsage, `no preset "hcp"`},
		{[]string{"build", "-o", "x", "--compress", "lz5"}, nil, exitUsage, `no compression "lz5"`},
		{[]string{"build", "-o", "x", "--layer", "bse"}, nil, exitUsage, `no layer "bse"`},
		{[]string{"build", "-o", "x", "--file", "a"}, nil, exitUsage, "FROM:TO"},
		{[]string{"build", "-o", "x"}, map[string]string{"SOURCE_DATE_EPOCH": "today"}, exitUsage, "SOURCE_DATE_EPOCH"},
		{[]string{"build", "-o", "x", "--module", "loop"}, nil, exitUsage, "--modules /lib/modules/VERSION"},
		{[]string{"build", "-o", "x", "--modules", "/nonexistent"}, nil, exitNotFound, "/nonexistent"},
		{[]string{"build", "-o", "x", "--modules", debianKernel(), "--module", "overlya"}, nil, exitNotFound, "did you mean overlay?"},
		{[]string{"build", "-o", "x", "--shim", "/bin/sh"}, nil, exitUsage, "CGO_ENABLED=0"},
		{[]string{"tools"}, nil, exitUsage, "-o FILE"},
		{[]string{"ls", "/etc/passwd"}, nil, exitFailed, "no archive"},
		{[]string{"ls", "/nonexistent"}, nil, exitNotFound, "/nonexistent"},
	} {
		args := c.args
		if args[0] != "ls" {
			args = append(args[:len(args):len(args)], programs...)
		}
		initramfsOf(t, c.env, args...).want(t, c.code, c.text)
	}
}

// TestModprobeIsAName by which the kernel calls windlass.
func TestModprobeIsAName(t *testing.T) {
	for _, name := range []string{"modprobe", "/sbin/modprobe"} {
		run(t, nil, nil, name, "-q", "--", "fs-nothing-that-there-is").want(t, 1, "")
		run(t, nil, nil, name).want(t, 2, "say which module")
	}
}
