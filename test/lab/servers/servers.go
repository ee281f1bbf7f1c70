// Package servers starts real storage servers for tests: a Ceph cluster, an iSCSI target and an NFS server.
//
// Each is a set of processes that die with the program that started them. They keep everything below a directory given, bind to addresses
// given, and say when they are ready; nobody has to wait for time to pass. A process can be stopped, killed and started again. The package
// makes no network: it is meant for a network namespace (see test/lab/netns, test/lab), where addresses and ports are free.
package servers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pathLimit keeps the names of unix sockets below a directory within what the kernel takes.
const pathLimit = 70

// makeDir makes the directory of a server.
func makeDir(dir string) error {
	if len(dir) > pathLimit {
		return fmt.Errorf("%s: too long for the sockets in it; give a path of up to %d bytes", dir, pathLimit)
	}
	return os.MkdirAll(dir, 0o755)
}

// run runs a command to its end and gives its output; what it says on stderr is in the error.
func run(ctx context.Context, env []string, stdin io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = stdin
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.Bytes(), nil
}
