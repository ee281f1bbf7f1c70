// Package cli is the command line of windlass: the verbs of the client, and serve, which starts the daemon.
//
// It owns what a person sees: words, tables, progress, exit codes. It reaches the daemon by its API only and never touches the node.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/serve"
	"github.com/windlass-hpc/windlass/internal/config"
)

// Options is what the program gives to its command line.
type Options struct {
	// Serve runs the daemon until ctx ends. What it has to say goes to out.
	Serve func(ctx context.Context, cfg config.Config, out io.Writer) error
	// ServeChunkfs runs the chunkfs server until nobody needs it. What it has to say goes to out.
	ServeChunkfs func(ctx context.Context, cfg serve.Config, out io.Writer) error
	// Version and Commit say what was built.
	Version, Commit string
	// Env looks up an environment variable; nil is os.LookupEnv.
	Env func(string) (string, bool)
	// Now is the time; nil is time.Now.
	Now func() time.Time
}

// forerunner is the name of the service before us. Called by it, windlass serves: boot scripts go on working with a link.
const forerunner = "imageapi-server"

// Run runs one command line, args[0] being the program's name, and answers the exit code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer, opts Options) int {
	if len(args) > 0 && filepath.Base(args[0]) == modprobe {
		return runModprobe(args[1:], stdout, stderr)
	}
	if opts.Env == nil {
		opts.Env = os.LookupEnv
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.built()
	if len(args) == 0 {
		args = []string{"windlass"}
	}
	words := args[1:]
	if filepath.Base(args[0]) == forerunner {
		words = append([]string{"serve"}, words...)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the program as usual

	a := &app{opts: opts, in: stdin, out: stdout, err: stderr}
	root := a.root()
	root.SetArgs(words)
	cmd, err := root.ExecuteContextC(ctx)
	if a.cancel != nil {
		a.cancel()
	}
	if err != nil && !a.started { // cobra found it wrong before it ran
		err = usageError{err, cmd.CommandPath()}
	}
	return a.report(cmd, err)
}

// app is one run of the command line.
type app struct {
	opts     Options
	in       io.Reader
	out, err io.Writer

	conn    connection
	output  string
	timeout time.Duration
	verbose bool

	started bool
	cancel  context.CancelFunc
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "windlass",
		Short: "Raise system images on compute nodes: attach, mount, run",
		Long: `windlass raises system images on compute nodes, link by link: attach (a block device), mount (a file system on it) and container
(a system container that runs in it). "windlass serve" is the daemon; the other commands talk to it, but for "windlass image",
"windlass initramfs" and "windlass netboot", which look after images, build what nodes boot with and boot them, by themselves.`,
		Example: `  windlass serve
  windlass run -d --name web --image /images/debian.sqsh --systemd
  windlass tree web
  windlass exec -it web bash
  windlass stop web && windlass rm web`,
		Version:           a.opts.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.begin,
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err, cmd.CommandPath()} })
	f := root.PersistentFlags()
	f.StringVar(&a.conn.socket, "socket", "", "unix socket of the daemon (WINDLASS_SOCKET; default "+config.DefaultSocket+")")
	f.StringVar(&a.conn.url, "url", "", "address of the daemon: http://…, https://… or unix:///… (WINDLASS_URL)")
	f.StringVar(&a.conn.ca, "cacert", "", "file of the authorities that the daemon's certificate is checked with (WINDLASS_CACERT)")
	f.StringVar(&a.conn.cert, "cert", "", "file of the client certificate (WINDLASS_CERT)")
	f.StringVar(&a.conn.key, "key", "", "file of its key (WINDLASS_KEY)")
	f.StringVarP(&a.output, "output", "o", "table", "how to answer: table, json or yaml")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this long, such as 30s; 0 is never")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "tell more of an error: its kind and the request's id")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp)))

	root.AddGroup(&cobra.Group{ID: "raise", Title: "Raise and take down:"}, &cobra.Group{ID: "life", Title: "Live with containers:"},
		&cobra.Group{ID: "images", Title: "Images:"},
		&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "service", Title: "The service:"},
		&cobra.Group{ID: "node", Title: "The node, where it was booted into windlass:"})
	group(root, "raise", a.attachCommand(), a.mountCommand(), a.runCommand(), a.rmCommand())
	group(root, "life", a.execCommand(), a.startCommand(), a.stopCommand(), a.pauseCommand(), a.resumeCommand(), a.waitCommand())
	group(root, "images", a.imageCommand(), a.initramfsCommand(), a.netbootCommand())
	group(root, "look", a.psCommand(), a.inspectCommand(), a.treeCommand(), a.logsCommand(), a.eventsCommand(), a.iscsiCommand())
	group(root, "node", a.endCommands()...)
	group(root, "service", a.serveCommand(), a.configCommand(), a.versionCommand())
	root.AddCommand(exitCodesTopic(), a.chunkfsCommand())
	root.SetCompletionCommandGroupID("service")
	root.SetHelpCommandGroupID("service")
	return root
}

func group(root *cobra.Command, id string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = id
		root.AddCommand(c)
	}
}

// begin runs before every command, once cobra has understood it.
func (a *app) begin(cmd *cobra.Command, _ []string) error {
	if !contains(formats(), a.output) {
		return fmt.Errorf("--output: %q is none of %s", a.output, strings.Join(formats(), ", "))
	}
	a.started = true
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
		cmd.SetContext(ctx)
		a.cancel = cancel
	}
	return nil
}

// env looks up a variable; an empty one is none.
func (a *app) env(name string) string {
	v, _ := a.opts.Env(name)
	return v
}

// must is for what only a mistake in this package can break.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// each does fn for every target and goes on after an error. The errors are answered together.
func each(targets []string, fn func(target string) error) error {
	var errs []error
	for _, t := range targets {
		if err := fn(t); err != nil {
			errs = append(errs, err)
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
	}
	return joined(errs...)
}
