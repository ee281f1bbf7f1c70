package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/swagger/client/service"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) serveCommand() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon until it is asked to end. Containers go on without it, and are known to the next one.

Every setting is a flag, a key of the configuration file, and a variable WINDLASS_KEY; the first is the strongest. Without any, the daemon
listens on a unix socket that only root can use.`,
		Example: `  windlass serve
  windlass serve --config /etc/windlass/windlass.yaml --log-level debug
  windlass serve --scheme unix --scheme http --host 127.0.0.1 --port 8080
  windlass serve --scheme https --host 0.0.0.0 --tls-certificate node.crt --tls-key node.key --tls-ca ca.crt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(&flags, a.opts.Env)
			if err != nil {
				return usageError{err, ""}
			}
			if a.opts.Serve == nil {
				return errors.New("this program was built without the daemon")
			}
			return a.opts.Serve(cmd.Context(), cfg, a.err)
		},
	}
	flags.Register(cmd.Flags())
	return cmd
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the daemon's configuration",
		Example: `  windlass config check
  windlass config example > /etc/windlass/windlass.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with the configuration, or what it comes to",
		Long: `Read the configuration as serve would, from the file and the environment, and tell everything that is wrong with it. When nothing
is, show what it comes to.`,
		Example: `  windlass config check
  windlass config check ./windlass.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := config.Flags{File: append(args, "")[0]}
			cfg, err := config.Load(&flags, a.opts.Env)
			if err != nil {
				return usageError{err, ""}
			}
			if a.output == formatJSON {
				return writeJSON(a.out, cfg.Fields())
			}
			if _, err := fmt.Fprintln(a.out, "# OK. The configuration comes to:"); err != nil {
				return err
			}
			return cfg.WriteYAML(a.out)
		},
	}
	example := &cobra.Command{
		Use:     "example",
		Short:   "Show a configuration file with every key at its default",
		Example: "  windlass config example > /etc/windlass/windlass.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return config.WriteExample(a.out) },
	}
	cmd.AddCommand(check, example)
	return cmd
}

// versions is what version answers; daemon is nil when none answered.
type versions struct {
	Client models.Info  `json:"client"`
	Daemon *models.Info `json:"daemon"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this program and of the daemon",
		Example: `  windlass version
  windlass version --client`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: models.Info{Version: a.opts.Version, Commit: a.opts.Commit, Go: runtime.Version()}}
			var failed error
			if !clientOnly {
				v.Daemon, failed = a.daemonInfo(cmd)
			}
			if err := a.print(v, v.write); err != nil {
				return err
			}
			return failed
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only of this program: do not ask the daemon")
	return cmd
}

func (a *app) daemonInfo(cmd *cobra.Command) (*models.Info, error) {
	daemon, err := a.connect()
	if err != nil {
		return nil, err
	}
	ok, err := daemon.Service.GetInfoContext(cmd.Context(), service.NewGetInfoParamsWithTimeout(0))
	if err != nil {
		return nil, daemon.fault(err)
	}
	return ok.Payload, nil
}

func (v versions) write(w io.Writer) error {
	t := &table{head: []string{"", "VERSION", "COMMIT", "GO", "KERNEL", "CGROUPS"}}
	t.add("client", v.Client.Version, v.Client.Commit, v.Client.Go, "", "")
	if v.Daemon != nil {
		t.add("daemon", v.Daemon.Version, v.Daemon.Commit, v.Daemon.Go, v.Daemon.Kernel, v.Daemon.CgroupMode)
	}
	return t.write(w)
}
