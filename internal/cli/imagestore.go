package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build, publish and look after chunkfs images",
		Long: `Build images and look after the stores that hold them. A store is a directory, which any web server can serve to the nodes; these
commands work on it without the daemon. STORE is a directory, or for what only reads a URL; an image is named STORE#TAG or STORE#DIGEST.`,
		Example: `  windlass image build ./rootfs -o /srv/images --tag debian/12
  windlass image serve /srv/images --listen :8080
  windlass mount chunkfs http://head:8080#debian/12`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group := func(id, title string, cmds ...*cobra.Command) {
		cmd.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range cmds {
			c.GroupID = id
			run := c.RunE
			c.RunE = func(cmd *cobra.Command, args []string) error { return storeError(run(cmd, args)) }
			cmd.AddCommand(c)
		}
	}
	group("make", "Make and use:", a.imageBuildCommand(), a.imageServeCommand(), a.imageUnpackCommand(), a.imageExportCommand())
	group("look", "Look:", a.imageLsCommand(), a.imageInspectCommand(), a.imageDiffCommand(), a.imageStatCommand(), a.imageTraceCommand())
	group("keep", "Look after:", a.imageCheckCommand(), a.imageTagCommand(), a.imageRmCommand(), a.imagePinCommand(), a.imageUnpinCommand(),
		a.imageGCCommand())
	return cmd
}

// storeError gives an error of a store or an image the exit code of its kind.
func storeError(err error) error {
	if errors.Is(err, control.ErrNoServer) {
		return exitError{exitUnreachable, err}
	}
	var known *fault.Error
	if !errors.As(err, &known) || codeOf(err) != exitFailed {
		return err
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return usageError{err, ""}
	case fault.NotFound:
		return exitError{exitNotFound, err}
	case fault.Exists, fault.Busy, fault.BadState:
		return exitError{exitConflict, err}
	case fault.Timeout:
		return exitError{exitTimeout, err}
	}
	return err
}

// splitRef takes STORE#IMAGE apart. Without a '#', ref is "".
func splitRef(text string) (at, ref string) {
	at, ref, _ = strings.Cut(text, "#")
	return at, ref
}

// needRef is splitRef of what must name an image.
func needRef(cmd *cobra.Command, text string) (at, ref string, err error) {
	at, ref = splitRef(text)
	if at == "" || ref == "" {
		return "", "", usagef(cmd, "%q does not say which image of which store: write STORE#TAG, such as /srv/images#debian/12", text)
	}
	return at, ref, nil
}

// withImage opens the store, finds the image, and closes the store after use.
func withImage(cmd *cobra.Command, text string, use func(*image.Image) error) error {
	at, ref, err := needRef(cmd, text)
	if err != nil {
		return err
	}
	o, err := image.OpenOrigin(at)
	if err != nil {
		return err
	}
	defer o.Close()
	i, err := o.Image(cmd.Context(), ref)
	if err != nil {
		return err
	}
	return use(i)
}

// ownStore opens a store that will be changed, which must be a directory, and resolves the image.
func ownStore(cmd *cobra.Command, text string) (*store.Store, string, format.Digest, error) {
	at, ref, err := needRef(cmd, text)
	if err != nil {
		return nil, "", format.Digest{}, err
	}
	s, err := openOwn(cmd, at)
	if err != nil {
		return nil, "", format.Digest{}, err
	}
	d, err := s.Resolve(ref)
	return s, ref, d, err
}

func openOwn(cmd *cobra.Command, at string) (*store.Store, error) {
	if strings.Contains(at, "://") {
		return nil, usagef(cmd, "%s: a store is changed where it lies: name its directory, not a URL", at)
	}
	return store.Open(at)
}

// leftOut warns of what could not be kept, the first of it by name.
type leftOut struct {
	w io.Writer
	n int
}

const leftOutShown = 10

func (l *leftOut) add(path, what string) {
	if l.n++; l.n <= leftOutShown {
		fmt.Fprintf(l.w, "windlass: left out: %s: %s\n", printable(path), printable(what))
	}
}

func (l *leftOut) end() {
	if l.n > leftOutShown {
		fmt.Fprintf(l.w, "windlass: left out: %d more\n", l.n-leftOutShown)
	}
}

func size(n int64) string { return units.BytesSize(float64(n)) }

// brief is the beginning of a digest, enough for people.
func brief(digest string) string {
	algorithm, sum, ok := strings.Cut(digest, ":")
	if !ok || len(sum) < 12 {
		return digest
	}
	return algorithm + ":" + sum[:12]
}

// facts is a table of names and values without a head.
type facts struct{ rows [][2]string }

func (f *facts) add(name, format string, args ...any) {
	f.rows = append(f.rows, [2]string{name, fmt.Sprintf(format, args...)})
}

func (f *facts) write(w io.Writer) error {
	widest := 0
	for _, r := range f.rows {
		widest = max(widest, len(r[0]))
	}
	for _, r := range f.rows {
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", widest, r[0], printable(r[1])); err != nil {
			return err
		}
	}
	return nil
}

// bar shows how far something is, on a terminal, in one line that is written over.
type bar struct {
	w     io.Writer
	what  string
	now   func() time.Time
	began time.Time
	drawn time.Time
}

// barInterval is how often the line is written.
const barInterval = 100 * time.Millisecond

// bar gives nil when stderr is no terminal; all of its methods take that.
func (a *app) bar(what string) *bar {
	if terminal(a.err) == nil {
		return nil
	}
	return &bar{w: a.err, what: what, now: a.opts.Now, began: a.opts.Now()}
}

func (b *bar) set(done, total int64) { b.say(done, total, "") }

func (b *bar) say(done, total int64, more string) {
	if b == nil {
		return
	}
	now := b.now()
	if now.Sub(b.drawn) < barInterval {
		return
	}
	b.drawn = now
	text := b.what + "  " + size(done)
	if total > 0 {
		text += fmt.Sprintf(" of %s, %d %%", size(total), 100*min(done, total)/total)
	}
	if took := now.Sub(b.began).Seconds(); took > 1 {
		text += fmt.Sprintf("  %s/s", size(int64(float64(done)/took)))
	}
	fmt.Fprint(b.w, "\r\x1b[K"+text+more)
}

// end takes the line away.
func (b *bar) end() {
	if b != nil && !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// absolute is a path for messages that outlive the working directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
