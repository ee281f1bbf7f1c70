package root

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const refusedProgram = "root-test-refused"

// refused is what a node has when an image could not become its root.
type refused struct {
	Error, Mounts string
	Names         []string // of the image
}

// TestAnImageThatCannotBeTheRootTakesNothing holds that the node has all that it had: it tries another image then, or is to start anew.
func TestAnImageThatCannotBeTheRootTakesNothing(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", t.TempDir())
	cmd.Args[0] = refusedProgram
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	var got refused
	must(t, json.Unmarshal(out, &got))
	if got.Error != "the image's /run: it is no directory" {
		t.Errorf("it says %q", got.Error)
	}
	for _, at := range []string{"/dev", "/proc", "/sys", "/run", "/run/image"} {
		if !strings.Contains(got.Mounts, " "+at+" ") {
			t.Errorf("%s is not mounted any more", at)
		}
	}
	if strings.Count(got.Mounts, "\n") != 6 || len(got.Names) != 4 {
		t.Errorf("mounted are\n%s; the image has %q", got.Mounts, got.Names)
	}
}

// refuse gives a root to an image whose /run is a file.
func refuse() error {
	at := os.Args[1]
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("root", at, "tmpfs", 0, ""), enter(at))
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", "/run/image"} {
		kind := "tmpfs"
		if dir == "/proc" {
			kind = "proc"
		}
		if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount(kind, dir, kind, 0, "")); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/run/image/run", nil, 0o644); err != nil {
		return err
	}
	var got refused
	got.Error = fmt.Sprint(Switch("/run/image", Next{Program: "/sbin/init"}))
	mounts, _ := os.ReadFile("/proc/self/mounts") // nothing is told then
	got.Mounts = string(mounts)
	list, _ := os.ReadDir("/run/image")
	for _, e := range list {
		got.Names = append(got.Names, e.Name())
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}
