package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func stopSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// onEach runs fn on each target, shows what it gave, if anything, and answers what failed.
func (a *app) onEach(targets []string, fn func(daemon *api, target string) (object, error), show func([]object) error) error {
	daemon, err := a.connect()
	if err != nil {
		return err
	}
	var done []object
	failed := each(targets, func(target string) error {
		o, err := fn(daemon, target)
		if err == nil {
			done = append(done, o)
		}
		return err
	})
	if len(done) > 0 {
		if err := show(done); err != nil {
			return err
		}
	}
	return failed
}

// onContainers runs fn on each target and answers what it gave: names in a table's place, objects otherwise.
func (a *app) onContainers(cmd *cobra.Command, targets []string, fn func(ctx context.Context, daemon *api, c *models.Container) (*models.Container, error)) error {
	return a.onEach(targets, func(daemon *api, target string) (object, error) {
		c, err := daemon.container(cmd.Context(), target)
		if err != nil {
			return nil, err
		}
		if c, err = fn(cmd.Context(), daemon, c); err != nil {
			return nil, fmt.Errorf("%s %s: %w", cmd.Name(), target, err)
		}
		return c, nil
	}, func(changed []object) error { return a.answer(changed...) })
}

func (a *app) startCommand() *cobra.Command {
	var waitReady bool
	cmd := &cobra.Command{
		Use:   "start ID|NAME...",
		Short: "Start containers that are created or have ended",
		Example: `  windlass start web
  windlass start --wait-ready web db`,
		Args:              needTargets,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onContainers(cmd, args, func(ctx context.Context, d *api, c *models.Container) (*models.Container, error) {
				c, err := d.setState(ctx, int64(c.ID), string(models.ContainerStateRunning), nil)
				if err != nil || !waitReady {
					return c, err
				}
				return d.wait(ctx, int64(c.ID), "ready")
			})
		},
	}
	cmd.Flags().BoolVar(&waitReady, "wait-ready", false, "answer once they are ready")
	return cmd
}

func (a *app) stopCommand() *cobra.Command {
	var (
		grace time.Duration
		wait  bool
	)
	cmd := &cobra.Command{
		Use:   "stop ID|NAME...",
		Short: "Stop containers",
		Long: `Ask containers to stop and wait until they have ended. What does not end within its grace is killed. All are asked before any is
waited for.`,
		Example: `  windlass stop web db
  windlass stop --time 5s web
  windlass stop --time 0s web      # kill it
  windlass stop --wait=false web`,
		Args:              needTargets,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			var given *int64
			if cmd.Flags().Changed("time") {
				if grace < 0 {
					return usagef(cmd, "--time: it cannot be less than nothing")
				}
				s := seconds(grace)
				given = &s
			}
			return a.stop(cmd, args, given, wait)
		},
	}
	cmd.Flags().DurationVar(&grace, "time", 0, "grace before it is killed, such as 5s; unsaid, the container's own")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until they have ended")
	return cmd
}

func (a *app) stop(cmd *cobra.Command, targets []string, grace *int64, wait bool) error {
	daemon, err := a.connect()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	var asked []*models.Container
	failed := []error{each(targets, func(target string) error {
		c, err := daemon.container(ctx, target)
		if err != nil {
			return err
		}
		if c, err = daemon.setState(ctx, int64(c.ID), string(models.ContainerStateExited), grace); err != nil {
			return fmt.Errorf("stop %s: %w", target, err)
		}
		asked = append(asked, c)
		return nil
	})}
	var stopped []object
	for _, c := range asked {
		if wait && c.State != models.ContainerStateCreated { // what never ran has not ended
			ended, err := daemon.wait(ctx, int64(c.ID), "ended")
			if err != nil {
				failed = append(failed, fmt.Errorf("wait until %s has ended: %w", nameOf(c), err))
				continue
			}
			c = ended
		}
		stopped = append(stopped, c)
	}
	if len(stopped) > 0 {
		failed = append(failed, a.answer(stopped...))
	}
	return joined(failed...)
}

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "pause ID|NAME...",
		Short:   "Freeze all processes of containers",
		Example: "  windlass pause web",
		Args:    needTargets, ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onContainers(cmd, args, func(ctx context.Context, d *api, c *models.Container) (*models.Container, error) {
				return d.setState(ctx, int64(c.ID), string(models.ContainerStatePaused), nil)
			})
		},
	}
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume ID|NAME...",
		Short:   "Thaw containers that are paused",
		Example: "  windlass resume web",
		Args:    needTargets, ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onContainers(cmd, args, func(ctx context.Context, d *api, c *models.Container) (*models.Container, error) {
				if c.State != models.ContainerStatePaused && c.State != models.ContainerStateRunning {
					return nil, &apiError{status: 409, payload: models.Error{Message: ref(fmt.Sprintf(
						"container %s is %s, not paused: `windlass start` starts it", nameOf(c), c.State))}}
				}
				return d.setState(ctx, int64(c.ID), string(models.ContainerStateRunning), nil)
			})
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	var condition string
	cmd := &cobra.Command{
		Use:   "wait ID|NAME...",
		Short: "Wait until containers have ended, are ready, or run",
		Long:  "Wait until containers have ended, or with --condition until they are ready or run. --timeout limits it.",
		Example: `  windlass wait web
  windlass wait --condition ready --timeout 60s web db`,
		Args:              needTargets,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !contains(conditions(), condition) {
				return usagef(cmd, "--condition: %q is none of ended, ready, running", condition)
			}
			return a.onContainers(cmd, args, func(ctx context.Context, d *api, c *models.Container) (*models.Container, error) {
				return d.wait(ctx, int64(c.ID), condition)
			})
		},
	}
	cmd.Flags().StringVar(&condition, "condition", "ended", "ended, ready or running")
	must(cmd.RegisterFlagCompletionFunc("condition", cobra.FixedCompletions(conditions(), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func conditions() []string { return []string{"ended", "ready", "running"} }

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm ID|NAME...",
		Aliases: []string{"delete"},
		Short:   "Delete containers, mounts or attachments",
		Long: `Delete objects of any kind, with what they defined themselves. A container that runs, and what others hold, stays, but with --force:
that stops the container, takes down what only windlass knows as held, and makes fail what waits for network storage that does not answer,
which only what is deleted lies on. What the kernel reports busy stays. What is stuck says so after some seconds and is tried again by itself.`,
		Example: `  windlass rm web
  windlass rm --force web
  windlass rm 4 3`,
		Args:              needTargets,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onEach(args, func(daemon *api, target string) (object, error) {
				o, err := daemon.find(cmd.Context(), target)
				if err != nil {
					return nil, err
				}
				if o, err = daemon.remove(cmd.Context(), o, force); err != nil {
					return nil, fmt.Errorf("delete %s: %w", target, err)
				}
				return o, nil
			}, func(gone []object) error {
				return a.print(one(gone), func(w io.Writer) error { return writeGone(w, gone) })
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "stop what runs and take down what is held")
	return cmd
}

// writeGone says what was deleted. A table would show the objects as if they were still there.
func writeGone(w io.Writer, gone []object) error {
	for _, o := range gone {
		text := fmt.Sprintf("deleted %s %d", kindOf(o), idOf(o))
		if c, ok := o.(*models.Container); ok && c.Name != "" {
			text += " " + printable(string(c.Name))
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}
