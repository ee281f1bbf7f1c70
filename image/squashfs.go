package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// squashfsHint says what to do without mksquashfs.
const squashfsHint = "install squashfs-tools 4.5 or later, or export as erofs or tar"

// squashfs runs mksquashfs, which reads the image as a tar archive from its standard input. Sockets, which tar has none of, and the root
// directory come by options.
func (i *Image) squashfs(ctx context.Context, path string, root *erofs.Node, o ExportOptions) error {
	program, err := exec.LookPath("mksquashfs")
	if err != nil {
		return fault.Hintf(fault.New(fault.Unsupported, "find mksquashfs: %w", err), squashfsHint)
	}
	sockets, err := i.sockets(ctx, root, &o)
	if err != nil {
		return err
	}
	args := []string{"-", path, "-tar", "-noappend", "-no-progress", "-quiet", "-exit-on-error", "-comp", "zstd", "-mkfs-time", "0",
		"-root-mode", fmt.Sprintf("%o", root.Mode&0o7777), "-root-uid", fmt.Sprint(root.UID), "-root-gid", fmt.Sprint(root.GID),
		"-root-time", fmt.Sprint(min(max(root.ModTime.Unix(), 0), 1<<32-1))}
	if sockets.Len() > 0 {
		f, err := os.CreateTemp("", "windlass-sockets-*")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		_, err = f.Write(sockets.Bytes())
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		args = append(args, "-pf", f.Name())
	}
	return i.pipe(ctx, exec.CommandContext(ctx, program, args...), o)
}

// pipe writes the tar archive into the program. Of two errors the one that came first counts: a program that fails stops reading.
func (i *Image) pipe(ctx context.Context, cmd *exec.Cmd, o ExportOptions) error {
	var said bounded
	cmd.Stdout, cmd.Stderr = &said, &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	werr := i.Tar(ctx, in, o)
	in.Close()
	if werr != nil && !errors.Is(werr, unix.EPIPE) {
		_ = cmd.Process.Kill() // half an archive must not become an image
	}
	err = cmd.Wait()
	if werr != nil && !errors.Is(werr, unix.EPIPE) {
		return werr
	}
	if err != nil {
		last := strings.TrimSpace(string(said.b))
		return fault.Hintf(fault.New(fault.Backend, "mksquashfs: %w: %s", err, last), squashfsHint)
	}
	return werr
}

// plainName is a name that means nothing to mksquashfs. It reads definitions of files line by line, and one kind of them is a command to
// run: a name of an image must never look like more than a name.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./@:+,=-]*$`)

// sockets gives the definitions of all sockets, and says what of the tree squashfs cannot hold.
func (i *Image) sockets(ctx context.Context, root *erofs.Node, o *ExportOptions) (*bytes.Buffer, error) {
	var list bytes.Buffer
	tell := *o
	o.Skipped = nil // the tar writer would speak of sockets again
	o.keep = squashfsXattr
	err := walk(ctx, root, func(at string, n *erofs.Node, first string) error {
		for _, x := range n.Xattrs {
			if at == first && !squashfsXattr(x.Name) {
				tell.skip(at, "its attribute "+x.Name+", which squashfs cannot hold")
			} else if at == "." {
				tell.skip(at, "its attribute "+x.Name+", for mksquashfs takes none of the root")
			}
		}
		if n.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return nil
		}
		if !plainName.MatchString(at) {
			tell.skip(at, "it is a socket with a name that mksquashfs does not take")
			return nil
		}
		_, err := io.WriteString(&list, fmt.Sprintf("%s I %d %o %d %d s\n", at, min(max(n.ModTime.Unix(), 0), 1<<32-1), n.Mode&0o7777, n.UID, n.GID))
		return err
	})
	return &list, err
}

func squashfsXattr(name string) bool {
	for _, p := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, p) && len(name) > len(p) {
			return true
		}
	}
	return false
}

// bounded keeps the end of what a program says.
type bounded struct{ b []byte }

func (l *bounded) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - 4096; n > 0 {
		l.b = l.b[n:]
	}
	return len(p), nil
}
