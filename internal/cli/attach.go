package cli

import (
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) attachCommand() *cobra.Command {
	cmd := a.specCommand(&cobra.Command{
		Use:   "attach [loopback|local|rbd|iscsi] …",
		Short: "Attach a block device",
		Long: `Attach a block device: a file by a loop device, a device of this node, an image of a Ceph cluster, a LUN of an iSCSI target, or
whatever a definition in a file says. The attachment stays until "windlass rm".`,
		Example: `  windlass attach loopback /images/debian.sqsh
  windlass attach local /dev/disk/by-label/scratch
  windlass attach rbd rbd/debian@v1 --monitor 10.0.0.1 --name node --credential ceph-node
  windlass attach -f rbd.yaml
  echo '{"kind":"local","local":{"path":"/dev/sdb"}}' | windlass attach -f -`,
	}, func() object { return &models.Attach{} })
	cmd.AddCommand(a.attachLoopbackCommand(), a.attachLocalCommand(), a.attachRbdCommand(), a.attachIscsiCommand())
	return cmd
}

// loopbackFlags are those of a loop device, wherever one is made.
type loopbackFlags struct {
	readOnly, directIO, readPartitions bool
	offset, sizeLimit                  sizeFlag
	partition, mount                   int64
}

func (l *loopbackFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&l.readOnly, "read-only", false, "open the file read-only; unsaid, what mounts it decides")
	f.BoolVar(&l.directIO, "direct-io", false, "bypass the page cache for the file")
	f.BoolVar(&l.readPartitions, "read-partitions", false, "have the kernel read the partition table")
	f.Int64Var(&l.partition, "partition", 0, "attach only this partition")
	f.Var(&l.offset, "offset", "bytes of the file to skip")
	f.Var(&l.sizeLimit, "size-limit", "bytes of the file to take")
	f.Int64Var(&l.mount, "in-mount", 0, "the path lies in the mount with this id")
}

func (l *loopbackFlags) spec(a *app, daemon *api, cmd *cobra.Command, path string) (*models.Attach, error) {
	f := cmd.Flags()
	loop := &models.AttachLoopback{Base: models.BaseRoot.Pointer(), DirectIo: l.directIO}
	if l.mount != 0 {
		loop.Base, loop.Mount = models.BaseMount.Pointer(), &models.Mount{ID: models.ID(l.mount)}
	} else {
		var err error
		if path, err = a.path(daemon, path); err != nil {
			return nil, err
		}
	}
	loop.Path = &path
	loop.ReadOnly = said(f, "read-only", l.readOnly)
	loop.ReadPartitions = said(f, "read-partitions", l.readPartitions)
	loop.Partition = said(f, "partition", l.partition)
	loop.Offset = said(f, "offset", int64(l.offset))
	loop.SizeLimit = said(f, "size-limit", int64(l.sizeLimit))
	return &models.Attach{Kind: models.AttachKindLoopback, Loopback: loop}, nil
}

func (a *app) attachLoopbackCommand() *cobra.Command {
	var loop loopbackFlags
	var p progressFlags
	cmd := &cobra.Command{
		Use:   "loopback FILE",
		Short: "Attach a file by a loop device",
		Example: `  windlass attach loopback /images/debian.sqsh
  windlass attach loopback disk.img --partition 2 --read-only
  windlass attach loopback images/a.sqsh --in-mount 4`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			spec, err := loop.spec(a, daemon, cmd, args[0])
			if err != nil {
				return err
			}
			return a.create(cmd, spec, p)
		},
	}
	loop.register(cmd)
	p.register(cmd)
	return cmd
}

func (a *app) attachLocalCommand() *cobra.Command {
	var partition int64
	var p progressFlags
	cmd := &cobra.Command{
		Use:   "local DEVICE",
		Short: "Attach a block device of this node",
		Example: `  windlass attach local /dev/sdb
  windlass attach local /dev/disk/by-id/nvme-a --partition 1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := localSpec(args[0])
			spec.Local.Partition = said(cmd.Flags(), "partition", partition)
			return a.create(cmd, spec, p)
		},
	}
	cmd.Flags().Int64Var(&partition, "partition", 0, "attach only this partition")
	p.register(cmd)
	return cmd
}

func localSpec(path string) *models.Attach {
	return &models.Attach{Kind: models.AttachKindLocal, Local: &models.AttachLocal{Path: &path}}
}
