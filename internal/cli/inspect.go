package cli

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect ID|NAME...",
		Short: "Show all of a container, mount or attachment",
		Long: `Show all that the daemon knows of objects of any kind, what they stand on and what was done to them included. The answer is YAML,
or JSON with -o json: one object, or a list when several are asked for.`,
		Example: `  windlass inspect web
  windlass inspect 7 -o json | jq .timeline`,
		Args:              needTargets,
		ValidArgsFunction: a.completeContainers,
		RunE: func(cmd *cobra.Command, args []string) error {
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			var found []object
			failed := each(args, func(target string) error {
				o, err := daemon.find(cmd.Context(), target)
				if err == nil {
					found = append(found, o)
				}
				return err
			})
			if len(found) > 0 {
				v := one(found)
				if err := a.print(v, func(w io.Writer) error { return writeYAML(w, v) }); err != nil {
					return err
				}
			}
			return failed
		},
	}
}
