package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/client/containers"
)

func (a *app) logsCommand() *cobra.Command {
	var (
		follow bool
		tail   int64
	)
	cmd := &cobra.Command{
		Use:   "logs ID|NAME",
		Short: "Show what a container wrote to its console",
		Example: `  windlass logs web
  windlass logs -f --tail 20 web`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeOneContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			if tail < 0 && cmd.Flags().Changed("tail") {
				return usagef(cmd, "--tail: it cannot be less than nothing")
			}
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			c, err := daemon.container(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return daemon.log(cmd.Context(), int64(c.ID), said(cmd.Flags(), "tail", tail), follow, a.out)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the container ends")
	cmd.Flags().Int64VarP(&tail, "tail", "n", 0, "only the last lines")
	return cmd
}

func (c *api) readLog(ctx context.Context, id int64, tail *int64, follow bool, w io.Writer) error {
	p := containers.NewGetContainerLogParamsWithTimeout(0).WithID(id).WithTail(tail).WithFollow(&follow)
	_, _, err := c.Containers.GetContainerLogContext(ctx, p, writerOnly{w})
	return err
}

// writerOnly hides what else a writer can do: a file's ReadFrom would wait for more than one line.
type writerOnly struct{ io.Writer }
