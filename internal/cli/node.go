package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/initramfs/boot"
)

// endCommand gives the verb that ends a node whose first process is windlass.
func (a *app) endCommand(how, short, then string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   how,
		Short: short,
		Long: fmt.Sprintf(`Ask the first process of this node, which is windlass where the node was booted into an initramfs of ours, to end the node. It stops the
containers and takes down what lies below them, for at most a minute; then the node %s. The command does not wait for that.

On a machine with another first process, such as systemd, nothing happens, and the message says so.`, then),
		Example: fmt.Sprintf("  windlass %s\n  windlass %s --force            # when something hangs", how, how),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := boot.Ask(how, force); err != nil {
				return storeError(err)
			}
			text := "asked; the containers are stopped first\n"
			if force {
				text = "asked to do it at once\n"
			}
			_, err := fmt.Fprint(a.out, text)
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "at once: containers are killed, and storage is left as it is")
	return cmd
}

func (a *app) endCommands() []*cobra.Command {
	return []*cobra.Command{
		a.endCommand(boot.Poweroff, "Switch this node off", "is switched off"),
		a.endCommand(boot.Reboot, "Boot this node anew", "boots anew"),
		a.endCommand(boot.Halt, "Stop this node and leave it on", "stops, with its power on"),
	}
}
