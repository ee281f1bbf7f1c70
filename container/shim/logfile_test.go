package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
)

// On a full disk output is dropped, never waited for, and the gap is noted when there is room again.
func TestLogOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	ballast := filepath.Join(dir, "ballast")
	l, err := openLog(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.write([]byte("before\n"))
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	page := []byte(strings.Repeat("x", 4096))
	for range 4 {
		l.write(page)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.write([]byte("after\n"))
	got, err := os.ReadFile(filepath.Join(dir, proto.LogName))
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "no space left on device]\nafter\n") || !strings.Contains(text, "bytes of output are missing here") {
		t.Errorf("log %.80q … %.120q", text, text[max(0, len(text)-120):])
	}
}

func TestLogRotation(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"aaaaaaaa", "bbbbbbbb", "cc", "dddd"} {
		l.write([]byte(s))
	}
	l.close()
	if l, err = openLog(dir, 10); err != nil { // a container that is started again
		t.Fatal(err)
	}
	l.write([]byte("eeee"))
	l.close()
	for name, want := range map[string]string{"log": "ddddeeee", "log.1": "bbbbbbbbcc"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
	}
}

func TestEnd(t *testing.T) {
	for name, c := range map[string]struct {
		ws     unix.WaitStatus
		code   int
		signal string
	}{
		"exit 7":    {7 << 8, 7, ""},
		"killed":    {9, 137, "SIGKILL"},
		"crashed":   {11 | 0x80, 139, "SIGSEGV"},
		"poweroff":  {2, 0, ""},
		"reboot":    {1, 133, ""},
		"real-time": {40, 168, "SIG40"},
	} {
		t.Run(name, func(t *testing.T) {
			var st proto.Status
			describeEnd(&st, c.ws)
			if st.ExitCode != c.code || st.ExitSignal != c.signal {
				t.Errorf("got %d %q", st.ExitCode, st.ExitSignal)
			}
		})
	}
}
