//go:build ceph

package main

import (
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image/rbd"
)

func (a *app) removeCommand() *cobra.Command {
	var o rbd.RemoveOptions
	cmd := &cobra.Command{
		Use:     "remove rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]",
		Aliases: []string{"rm"},
		Short:   "Remove an image, or a snapshot of one",
		Long: `Remove an image with all its snapshots, or one snapshot. What has clones is not removed. A protected snapshot wants --force: nodes may
have it mapped, which the cluster does not know, and would read zeros and errors from then on. An image that is open to write wants
--evict, which cuts its writers off from the whole cluster for an hour.`,
		Example: `  windlass-ceph remove --force rbd:rbd/debian
  windlass-ceph remove --force rbd:rbd/debian@v1
  windlass-ceph remove rbd:rbd/debian.windlass-part-1f2e3d4c`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := rbd.ParseName(args[0])
			if err != nil {
				return err
			}
			cluster, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer cluster.Close()
			if err := cluster.Remove(cmd.Context(), name, o); err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(map[string]any{"removed": name})
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "also protected snapshots; no node may have them mapped")
	cmd.Flags().BoolVar(&o.Evict, "evict", false, "cut off who has the image open to write")
	return cmd
}
