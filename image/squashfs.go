package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// squashfsHint says what to do without mksquashfs.
const squashfsHint = "install squashfs-tools 4.5 or later, or export as erofs or tar"

// squashfs runs mksquashfs, which reads the image as a tar archive from its standard input. The root directory comes by options. There is
// no way for sockets: mksquashfs takes no definitions of files beside an archive.
func (i *Image) squashfs(ctx context.Context, path string, root *erofs.Node, o ExportOptions) error {
	program, err := exec.LookPath("mksquashfs")
	if err != nil {
		return fault.Hintf(fault.New(fault.Unsupported, "find mksquashfs: %w", err), squashfsHint)
	}
	for _, x := range root.Xattrs {
		o.skip(".", "its attribute "+x.Name+": mksquashfs takes none of the root")
	}
	o.squash = true
	o.keep = func(name string) string {
		for _, p := range []string{"user.", "trusted.", "security."} {
			if rest, ok := strings.CutPrefix(name, p); ok && rest != "" {
				return ""
			}
		}
		return "squashfs cannot hold it"
	}
	cmd := exec.CommandContext(ctx, program, "-", path, "-tar", "-noappend", "-no-progress", "-quiet", "-exit-on-error", "-comp", "zstd",
		"-root-mode", fmt.Sprintf("%o", root.Mode&0o7777), "-root-uid", fmt.Sprint(root.UID),
		"-root-gid", fmt.Sprint(root.GID))
	// The root directory of an archive has the present time to mksquashfs 4.5. Nothing is later than the latest file, so that the same image
	// gives the same bytes.
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", latest(root)))
	return i.pipe(ctx, cmd, o)
}

// latest gives the latest time in a tree, in seconds.
func latest(n *erofs.Node) int64 {
	sec := squashTime(n.ModTime).Unix()
	for _, e := range n.Entries {
		sec = max(sec, latest(e.Node))
	}
	return sec
}

// squashTime is the nearest that squashfs has: a second in 32 bits.
func squashTime(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), 0), 1<<32-1), 0)
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

// bounded keeps the end of what a program says.
type bounded struct{ b []byte }

func (l *bounded) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - 4096; n > 0 {
		l.b = l.b[n:]
	}
	return len(p), nil
}
