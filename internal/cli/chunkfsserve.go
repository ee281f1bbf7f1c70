package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/serve"
)

// chunkfsCommand is for the daemon, which starts it by the keeper.
func (a *app) chunkfsCommand() *cobra.Command {
	var (
		cfg  serve.Config
		size sizeFlag
	)
	cmd := &cobra.Command{
		Use:    "chunkfs",
		Short:  "The server of chunkfs mounts, which the daemon starts",
		Hidden: true,
	}
	server := &cobra.Command{
		Use:   "serve",
		Short: "Serve the chunkfs mounts of a daemon",
		Long: `Serve the chunkfs mounts of the daemon with this run directory. The daemon starts it when it is first wanted; it ends when there is
no mount and no daemon.`,
		Example: "  windlass chunkfs serve --run-dir /run/windlass --cache-dir /var/cache/windlass",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.opts.ServeChunkfs == nil {
				return errors.New("this program was built without the chunkfs server")
			}
			cfg.Quota = int64(size)
			return a.opts.ServeChunkfs(cmd.Context(), cfg, a.err)
		},
	}
	f := server.Flags()
	f.StringVar(&cfg.RunDir, "run-dir", "", "run directory of the daemon")
	f.StringVar(&cfg.CacheDir, "cache-dir", "", "directory of what has been fetched")
	f.Var(&size, "cache-size", "most that it may take; 0 chooses by the room that there is")
	for _, name := range []string{"run-dir", "cache-dir"} {
		must(server.MarkFlagRequired(name))
	}
	cmd.AddCommand(server)
	return cmd
}
