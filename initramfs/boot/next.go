package boot

import (
	"strings"

	"github.com/windlass-hpc/windlass/initramfs/boot/root"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// nextInit is the first process of the image at dir: what init= on the command line names, as with other initramfs, or what is found. args and
// env are what the kernel gave to this one.
func (n *node) nextInit(dir string, args, env []string) (root.Next, error) {
	next := root.Next{Args: args, Env: nextEnvironment(env)}
	for _, w := range cmdline.Words(n.line) {
		if path, is := strings.CutPrefix(w, "init="); is {
			next.Program = path
		}
	}
	if next.Program == "" {
		program, err := root.Program(dir)
		next.Program = program
		return next, err
	}
	if err := root.Executable(dir, next.Program); err != nil {
		return next, fault.Hintf(fault.New(fault.NotFound, "the command line has init=%s, and the image has no such program: %w", next.Program, err),
			"without init= it is looked for in the usual places: %s", strings.Join(root.Programs(), ", "))
	}
	return next, nil
}

// nextEnvironment is what the kernel would give to the first process of the image, HOME, TERM and words of the command line, and a PATH: not
// every init makes its own.
func nextEnvironment(given []string) []string {
	env := []string{"HOME=/", "TERM=linux", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range given {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == hopped {
			continue
		}
		env = append(without(env, name), v)
	}
	return env
}

func without(env []string, name string) (rest []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			rest = append(rest, v)
		}
	}
	return rest
}

// servesRoot in the environment of a daemon says that what it starts to serve an image goes on as the server of the root; chunkfs/control reads it.
const servesRoot = "WINDLASS_SERVES_ROOT"

// daemonEnvironment is that of the daemon. What it starts to serve an image goes on when the image has become the root.
func (n *node) daemonEnvironment() []string {
	env := environment()
	if n.opts.Handoff == cmdline.HandoffSwitchRoot {
		env = append(env, servesRoot+"=yes")
	}
	return env
}
