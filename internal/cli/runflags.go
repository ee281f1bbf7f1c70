package cli

import (
	"strings"
	"time"

	"github.com/kballard/go-shellquote"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// systemdInit is what runs when no command is given.
const systemdInit = "/sbin/init"

// runFlags describe a container.
type runFlags struct {
	file, image, fs              string
	detach, remove, waitReady    bool
	name, hostname, user, dir    string
	systemd                      bool
	env, labels, binds, networks []string
	memory                       sizeFlag
	cpus                         float64
	pids                         int64
	stopTimeout                  time.Duration
	upper                        upperFlags
	progress                     progressFlags
}

func (r *runFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.file, "file", "f", "", "read the container's definition from this file, YAML or JSON; - is stdin")
	f.StringVar(&r.image, "image", "", "image file, block device, directory, URL, chunkfs+STORE#TAG, rbd:…, iscsi://… or nfs:…")
	f.StringVarP(&r.fs, "fs-type", "t", "", "file system of the image; unsaid, by the end of its name, else squashfs")
	f.BoolVarP(&r.detach, "detach", "d", false, "answer once it runs")
	f.BoolVar(&r.remove, "rm", false, "delete it when it has ended")
	f.BoolVar(&r.waitReady, "wait-ready", false, "with --detach: answer once it is ready")
	f.StringVar(&r.name, "name", "", "name of the container")
	f.BoolVar(&r.systemd, "systemd", false, "the command is systemd; so it is without a command")
	f.StringVar(&r.hostname, "hostname", "", "its host name; unsaid, its name")
	f.StringVarP(&r.user, "user", "u", "", "run as USER, USER:GROUP or numbers")
	f.StringVarP(&r.dir, "workdir", "w", "", "directory to run in")
	f.StringArrayVarP(&r.env, "env", "e", nil, "environment variable KEY=VALUE, or KEY to pass on; may be given again")
	f.StringArrayVarP(&r.labels, "label", "l", nil, "label KEY=VALUE; may be given again")
	f.StringArrayVar(&r.binds, "bind", nil, "show SOURCE of this node at TARGET: SOURCE:TARGET[:ro,recursive]; may be given again")
	f.StringSliceVar(&r.networks, "namespace", nil, "further namespaces of its own: net, user, time; may be given again")
	f.VarP(&r.memory, "memory", "m", "limit of memory")
	f.Float64Var(&r.cpus, "cpus", 0, "limit of processors, such as 1.5")
	f.Int64Var(&r.pids, "pids", 0, "limit of processes and threads")
	f.DurationVar(&r.stopTimeout, "stop-timeout", 0, "time between asking it to stop and killing it")
	r.upper.register(cmd)
	r.progress.register(cmd)
}

// besideFile are the flags that say how to run, not what, and so go together with a definition.
var besideFile = []string{"file", "name", "detach", "rm", "wait-ready", "progress"}

// spec makes the definition from a file or from the flags.
func (r *runFlags) spec(a *app, daemon *api, cmd *cobra.Command, args []string) (*models.Container, error) {
	if r.file != "" {
		return r.fromFile(a, cmd, args)
	}
	if r.image == "" {
		return nil, usagef(cmd, "which image? Give --image, or a definition with -f")
	}
	if r.waitReady && !r.detach {
		return nil, usagef(cmd, "--wait-ready is for --detach")
	}
	lower, err := a.imageMount(daemon, r.image, r.fs)
	if err != nil {
		return nil, err
	}
	c := &models.Container{
		Name: models.Name(r.name), Hostname: r.hostname, User: r.user, WorkingDir: r.dir,
		Mount: r.upper.overlay([]*models.Mount{lower}), State: models.ContainerStateRunning,
		Limits: r.limits(),
	}
	command := shellquote.Join(args...)
	if c.Systemd = r.systemd; len(args) == 0 {
		command = systemdInit
		c.Systemd = r.systemd || !cmd.Flags().Changed("systemd")
	}
	c.Command = &command
	if cmd.Flags().Changed("stop-timeout") {
		seconds := seconds(r.stopTimeout)
		c.StopTimeout = &seconds
	}
	for _, n := range r.networks {
		c.Namespaces = append(c.Namespaces, models.ContainerNamespace(n))
	}
	if err := r.lists(a, c); err != nil {
		return nil, usageError{err, cmd.CommandPath()}
	}
	return c, nil
}

func (r *runFlags) limits() *models.ContainerLimits {
	if r.memory == 0 && r.cpus == 0 && r.pids == 0 {
		return nil
	}
	return &models.ContainerLimits{Memory: int64(r.memory), CPU: r.cpus, Pids: r.pids}
}

func (r *runFlags) lists(a *app, c *models.Container) (err error) {
	if c.Env, err = parsePairs("env", r.env, a.opts.Env); err != nil {
		return err
	}
	none := func(string) (string, bool) { return "", true }
	if c.Labels, err = parsePairs("label", r.labels, none); err != nil {
		return err
	}
	for _, text := range r.binds {
		bind, err := parseBind(text)
		if err != nil {
			return err
		}
		c.Binds = append(c.Binds, bind)
	}
	return nil
}

func (r *runFlags) fromFile(a *app, cmd *cobra.Command, args []string) (*models.Container, error) {
	var extra []string
	own := cmd.LocalNonPersistentFlags()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if own.Lookup(f.Name) != nil && !contains(besideFile, f.Name) {
			extra = append(extra, "--"+f.Name)
		}
	})
	if len(args) > 0 {
		extra = append(extra, "the command")
	}
	if len(extra) > 0 {
		return nil, usagef(cmd, "%s: with -f the definition says that", strings.Join(extra, ", "))
	}
	c := &models.Container{}
	if err := a.readSpec(cmd, r.file, c); err != nil {
		return nil, err
	}
	if r.name != "" {
		c.Name = models.Name(r.name)
	}
	c.State = models.ContainerStateRunning
	return c, nil
}

// seconds rounds up: half a second of grace is not none.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
