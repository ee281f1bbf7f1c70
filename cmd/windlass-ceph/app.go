//go:build ceph

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// version and commit say what was built; the linker sets them.
var version, commit string

// app is one run of the program.
type app struct {
	out, err io.Writer
	env      func(string) (string, bool)

	conf, name, keyring string
	monitors            []string
	timeout             time.Duration
	json, quiet         bool

	started bool
}

// run runs one command line, without the program's name, and answers the exit code.
func run(args []string, out, stderr io.Writer, env func(string) (string, bool)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: out, err: stderr, env: env}
	defer context.AfterFunc(ctx, func() {
		stop() // the second signal ends the program as usual
		fmt.Fprintln(stderr, "windlass-ceph: interrupted; taking back what was begun. Once more ends at once, and leaves it")
	})()
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started { // cobra found it wrong before it ran
		err = usageError{err, cmd.CommandPath()}
	}
	return a.report(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "windlass-ceph",
		Short: "Publish images to a Ceph cluster",
		Long: `windlass-ceph publishes images to a Ceph cluster as RBD images that nodes map by their kernel, lists and removes them. It connects as Ceph's
own programs do: by ceph.conf and a keyring. A key is never said on the command line.`,
		Example: `  windlass-ceph publish debian.sqsh rbd:rbd/debian@v1
  windlass-ceph list rbd:rbd
  windlass-ceph remove --force rbd:rbd/debian
  windlass-ceph --name client.publisher --keyring ./publisher.keyring --monitors 192.0.2.10 list rbd:rbd/nodes`,
		Version:           fmt.Sprintf("%s (%s)", cmp.Or(version, "devel"), cmp.Or(commit, "unknown")),
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { a.started = true; return nil },
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err, cmd.CommandPath()} })
	f := root.PersistentFlags()
	f.StringVarP(&a.conf, "conf", "c", "", "Ceph's configuration (CEPH_CONF; default "+rbd.DefaultConf+")")
	f.StringVarP(&a.name, "name", "n", "client.admin", "user of the cluster")
	f.StringVarP(&a.keyring, "keyring", "k", "", "file with the user's key; unsaid, where the configuration says")
	f.StringSliceVarP(&a.monitors, "monitors", "m", nil, "addresses of the monitors, with commas between them, in place of those of the configuration")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long the cluster may take to answer; 0 is for ever")
	f.BoolVar(&a.json, "json", false, "answer as JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "do not show how far it is")
	root.AddCommand(a.publishCommand(), a.listCommand(), a.removeCommand(), exitCodesTopic())
	return root
}

// connect connects as the flags say.
func (a *app) connect(ctx context.Context) (*rbd.Cluster, error) {
	if a.timeout < 0 {
		return nil, usageError{fmt.Errorf("--timeout %v: it cannot be negative", a.timeout), ""}
	}
	return rbd.Connect(ctx, rbd.Config{Conf: a.conf, User: a.name, Keyring: a.keyring, Monitors: a.monitors, Timeout: a.timeout, Env: a.env})
}

// note tells a person something on the way.
func (a *app) note(text string) { fmt.Fprintf(a.err, "windlass-ceph: %s\n", printable(text)) }

// writeJSON answers v as JSON.
func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printable makes a text harmless for a terminal: names and metadata come from a cluster that others write to. Line ends are kept.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r >= ' ' && r != 0x7f && (r < 0x80 || r >= 0xa0) {
			return r
		}
		return '?'
	}, s)
}
