package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) runCommand() *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use:   "run (--image IMAGE | -f FILE) [COMMAND [ARG]...]",
		Short: "Create a container and start it",
		Long: `Create a container with its whole chain and start it: the image is attached and mounted, an overlay over it takes what is written,
and the command runs in that. Without a command the image's systemd is started (/sbin/init).

The image is a file (squashfs, erofs, …), a block device, a directory, a URL to fetch it from, or one of
  chunkfs+STORE#TAG                                   an image of a chunkfs store, which is fetched while it is used
  rbd:POOL/IMAGE@SNAPSHOT?monitor=A,B&name=USER       an image of a Ceph cluster; credential=NAME names its secret
  iscsi://HOST[:PORT]/TARGET/LUN?initiator=IQN        a LUN of an iSCSI target; user=USER&credential=NAME for CHAP
  nfs:HOST:/PATH?version=4.2                          a directory of an NFS server, or an image file there
Further options go behind the ? by the names that they have in a definition. What needs more has a definition, -f.

In the foreground the container's log is shown until it ends, and its exit code is answered. The first interrupt asks it to stop, the
second kills it. With --detach the container is shown once it runs, or is ready with --wait-ready.`,
		Example: `  windlass run -d --name web --image /images/debian.sqsh
  windlass run --rm --image /images/debian.sqsh cat /etc/os-release
  windlass run -d --image /images/node.erofs --memory 4G --cpus 2 --bind /scratch:/scratch --wait-ready
  windlass run -d --image chunkfs+http://head/images#debian/12
  windlass run -d --image nfs:head:/images/debian.sqsh
  windlass run -d --image 'rbd:rbd/debian@v1?monitor=10.0.0.1&name=node&credential=ceph-node'
  windlass run -d -f web.yaml`,
		Annotations: map[string]string{ownExit: "yes"},
		RunE:        func(cmd *cobra.Command, args []string) error { return a.run(cmd, args, &r) },
	}
	cmd.Flags().SetInterspersed(false) // what follows the command is the command's
	r.register(cmd)
	return cmd
}

func (a *app) run(cmd *cobra.Command, args []string, r *runFlags) error {
	if r.detach && r.remove {
		return usagef(cmd, "--rm needs the foreground: with --detach nobody is there to remove the container")
	}
	daemon, err := a.connect()
	if err != nil {
		return err
	}
	spec, err := r.spec(a, daemon, cmd, args)
	if err != nil {
		return err
	}
	if r.detach {
		return a.runDetached(cmd.Context(), daemon, spec, r)
	}
	return a.runForeground(cmd.Context(), daemon, spec, r)
}

func (a *app) runDetached(ctx context.Context, daemon *api, spec *models.Container, r *runFlags) error {
	o, err := a.raise(ctx, daemon, spec, r.progress)
	if err != nil {
		return detachedError(err)
	}
	if r.waitReady {
		if o, err = daemon.wait(ctx, int64(idOf(o)), "ready"); err != nil {
			return detachedError(fmt.Errorf("wait until %s is ready: %w", nameOf(o), err))
		}
	}
	return a.answer(o)
}

// detachedError keeps the codes of all other commands: there is no process whose code it could be.
func detachedError(err error) error { return exitError{codeOf(err), err} }

// runForeground follows the container to its end. Once it runs, signals go to it.
func (a *app) runForeground(ctx context.Context, daemon *api, spec *models.Container, r *runFlags) (err error) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals()...)
	defer signal.Stop(signals)
	o, err := a.raise(ctx, daemon, spec, r.progress)
	if err != nil {
		return err
	}
	box, ok := o.(*models.Container)
	if !ok {
		return fmt.Errorf("run: the daemon answered no container but %s %d", kindOf(o), idOf(o))
	}
	if r.remove {
		defer func() {
			_, gone := daemon.remove(context.WithoutCancel(ctx), box, true)
			if gone != nil {
				err = joined(err, fmt.Errorf("remove container %s: %w", nameOf(box), gone))
			}
		}()
	}
	end, err := a.follow(ctx, daemon, box, signals)
	if err != nil {
		return fmt.Errorf("follow container %s: %w", nameOf(box), err)
	}
	if end.State == models.ContainerStateDead {
		return fmt.Errorf("container %s could not be run: %s", nameOf(box), end.Error)
	}
	if code := deref(end.ExitCode); code != 0 {
		return exitError{code: int(code)}
	}
	return nil
}

// follow shows a container's log until it has ended, and stops it when that is asked for meanwhile.
func (a *app) follow(ctx context.Context, daemon *api, box *models.Container, signals <-chan os.Signal) (*models.Container, error) {
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timeout := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) { // a signal ends ctx too, but comes by itself
			close(timeout)
		}
	})()
	go a.stopWhenAsked(following, daemon, box, signals, timeout)
	if err := daemon.log(following, int64(box.ID), nil, true, a.out); err != nil {
		return nil, err
	}
	return daemon.wait(following, int64(box.ID), "ended")
}

// stopWhenAsked asks a container to stop at the first signal or at the end of --timeout, and kills it at the next signal.
func (a *app) stopWhenAsked(ctx context.Context, daemon *api, box *models.Container, signals <-chan os.Signal, timeout <-chan struct{}) {
	stop := func(grace *int64) {
		_, err := daemon.setState(ctx, int64(box.ID), string(models.ContainerStateExited), grace)
		if err != nil && ctx.Err() == nil {
			a.printError(fmt.Errorf("stop container %s: %w", nameOf(box), err))
		}
	}
	select {
	case <-ctx.Done():
		return
	case <-signals:
	case <-timeout:
	}
	fmt.Fprintf(a.err, "windlass: stopping container %s; interrupt again to kill it\n", nameOf(box))
	stop(nil)
	select {
	case <-ctx.Done():
	case <-signals:
		now := int64(0)
		stop(&now)
	}
}

// log writes what a container wrote, and goes on until it ends when follow.
func (c *api) log(ctx context.Context, id int64, tail *int64, follow bool, w io.Writer) error {
	return c.fault(c.readLog(ctx, id, tail, follow, w))
}

// parseBind reads SOURCE:TARGET[:ro][,recursive].
func parseBind(text string) (*models.ContainerBind, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return nil, fmt.Errorf("--bind: %q is not SOURCE:TARGET or SOURCE:TARGET:ro; paths with a colon need a definition, -f", text)
	}
	bind := &models.ContainerBind{Source: &parts[0], Target: &parts[1]}
	if len(parts) < 3 {
		return bind, nil
	}
	for option := range strings.SplitSeq(parts[2], ",") {
		switch option {
		case "ro":
			bind.Ro = ref(true)
		case "rw":
			bind.Ro = nil
		case "recursive":
			bind.Recursive = ref(true)
		default:
			return nil, fmt.Errorf("--bind: %q: option %q is none of ro, rw, recursive", text, option)
		}
	}
	return bind, nil
}

// parsePairs reads KEY=VALUE. A KEY alone is answered by lookup.
func parsePairs(flag string, words []string, lookup func(string) (string, bool)) (map[string]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	pairs := map[string]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if key == "" {
			return nil, fmt.Errorf("--%s: %q is not KEY=VALUE", flag, w)
		}
		if !ok {
			if value, ok = lookup(key); !ok {
				continue
			}
		}
		pairs[key] = value
	}
	return pairs, nil
}
