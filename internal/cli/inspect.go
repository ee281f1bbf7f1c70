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
			return a.onEach(args, func(daemon *api, target string) (object, error) {
				return daemon.find(cmd.Context(), target)
			}, func(found []object) error {
				v := one(found)
				return a.print(v, func(w io.Writer) error { return writeYAML(w, v) })
			})
		},
	}
}
