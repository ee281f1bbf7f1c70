package cli

import (
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) mountCommand() *cobra.Command {
	cmd := a.specCommand(&cobra.Command{
		Use:   "mount [attach|overlay|bind|nfs|tmpfs|uri|chunkfs] …",
		Short: "Mount a file system",
		Long: `Mount a file system at a place that windlass chooses: of a block device, an overlay of other mounts, a directory, an export
of an NFS server, memory, an image that is fetched, or whatever a definition in a file says. The mount stays until "windlass rm".`,
		Example: `  windlass mount attach --loopback /images/debian.sqsh --fs-type squashfs
  windlass mount overlay --lower 3 --upper-size 512M
  windlass mount nfs head:/images/debian --ro
  windlass mount uri https://images.example.org/debian.sqsh
  windlass mount chunkfs http://head/images#debian/12
  windlass mount -f chain.yaml`,
	}, func() object { return &models.Mount{} })
	cmd.AddCommand(a.mountAttachCommand(), a.mountOverlayCommand(), a.mountBindCommand(), a.mountTmpfsCommand(), a.mountURICommand(),
		a.mountNfsCommand(), a.mountChunkfsCommand())
	return cmd
}

// mountKind makes the command for one kind of mount.
func (a *app) mountKind(cmd *cobra.Command, spec func(cmd *cobra.Command, args []string) (*models.Mount, error)) *cobra.Command {
	var p progressFlags
	p.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := spec(cmd, args)
		if err != nil {
			return err
		}
		return a.create(cmd, m, p)
	}
	return cmd
}

func (a *app) mountAttachCommand() *cobra.Command {
	var (
		id              int64
		local, file, fs string
		options         []string
		loop            loopbackFlags
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "attach (--id ID | --loopback FILE | --local DEVICE)",
		Short: "Mount the file system of a block device",
		Example: `  windlass mount attach --id 3 --fs-type erofs
  windlass mount attach --loopback /images/debian.sqsh
  windlass mount attach --local /dev/sdb --partition 1 --fs-type ext4 --option ro --option noatime`,
		Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string) (*models.Mount, error) {
		given := 0
		for _, name := range []string{"id", "loopback", "local"} {
			if cmd.Flags().Changed(name) {
				given++
			}
		}
		if given != 1 {
			return nil, usagef(cmd, "give one of --id, --loopback, --local")
		}
		at := &models.Attach{ID: models.ID(id)}
		switch {
		case local != "":
			at = localSpec(local)
			at.Local.Partition = said(cmd.Flags(), "partition", loop.partition)
		case file != "":
			daemon, err := a.connect()
			if err != nil {
				return nil, err
			}
			if at, err = loop.spec(a, daemon, cmd, file); err != nil {
				return nil, err
			}
		}
		if fs == "" {
			fs = fsTypeOf(file)
		}
		if fs == "" {
			return nil, usagef(cmd, "--fs-type: which? Such as squashfs, erofs, ext4, xfs or btrfs")
		}
		return attachMount(at, fs, options), nil
	})
	f := cmd.Flags()
	f.Int64Var(&id, "id", 0, "the attachment with this id")
	f.StringVar(&file, "loopback", "", "a file, by a loop device of the mount's own")
	f.StringVar(&local, "local", "", "a block device of this node")
	f.StringVarP(&fs, "fs-type", "t", "", "squashfs, erofs, ext4, xfs or btrfs; unsaid, what the file's name ends with")
	f.StringArrayVar(&options, "option", nil, "mount option, such as ro; may be given again")
	loop.register(cmd)
	return cmd
}

func attachMount(at *models.Attach, fs string, options []string) *models.Mount {
	return &models.Mount{Kind: models.MountKindAttach, Attach: &models.MountAttach{Attach: at, FsType: &fs, MountOptions: options}}
}

func (a *app) mountOverlayCommand() *cobra.Command {
	var (
		lower []int64
		upper upperFlags
		ro    bool
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "overlay --lower ID...",
		Short: "Mount an overlay of other mounts",
		Example: `  windlass mount overlay --lower 3
  windlass mount overlay --lower 5 --lower 3 --upper-size 512M
  windlass mount overlay --lower 5,3 --ro`,
		Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string) (*models.Mount, error) {
		if len(lower) == 0 {
			return nil, usagef(cmd, "--lower: give the id of at least one mount")
		}
		var layers []*models.Mount
		for _, id := range lower {
			layers = append(layers, &models.Mount{ID: models.ID(id)})
		}
		m := upper.overlay(layers)
		m.Overlay.Ro = said(cmd.Flags(), "ro", ro)
		return m, nil
	})
	cmd.Flags().Int64SliceVar(&lower, "lower", nil, "id of a layer, uppermost first; may be given again")
	cmd.Flags().BoolVar(&ro, "ro", false, "no upper at all: nothing can be written")
	upper.register(cmd)
	return cmd
}

// upperFlags say where an overlay keeps what is written.
type upperFlags struct {
	size   sizeFlag
	inodes int64
	path   string
	mount  int64
}

func (u *upperFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(&u.size, "upper-size", "limit of what is written, kept in memory; unsaid, half of the memory")
	f.Int64Var(&u.inodes, "upper-inodes", 0, "limit of files written")
	f.StringVar(&u.path, "upper-path", "", "keep what is written in this directory of the node")
	f.Int64Var(&u.mount, "upper-mount", 0, "keep what is written in the mount with this id")
}

func (u *upperFlags) overlay(layers []*models.Mount) *models.Mount {
	o := &models.MountOverlay{Lower: layers}
	if *u != (upperFlags{}) {
		o.Upper = &models.OverlayUpper{Size: int64(u.size), Inodes: u.inodes, Path: u.path}
		if u.mount != 0 {
			o.Upper.Mount = &models.Mount{ID: models.ID(u.mount)}
		}
	}
	return &models.Mount{Kind: models.MountKindOverlay, Overlay: o}
}

func (a *app) mountBindCommand() *cobra.Command {
	var (
		ro, recursive bool
		mount         int64
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "bind PATH",
		Short: "Mount a directory or file of this node, or of another mount",
		Example: `  windlass mount bind /srv/data --ro
  windlass mount bind /home --recursive
  windlass mount bind /usr/share --in-mount 3`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string) (*models.Mount, error) {
		bind := &models.MountBind{Base: models.BaseRoot.Pointer(), Path: &args[0]}
		if mount != 0 {
			bind.Base, bind.Mount = models.BaseMount.Pointer(), &models.Mount{ID: models.ID(mount)}
		} else {
			daemon, err := a.connect()
			if err != nil {
				return nil, err
			}
			path, err := a.path(daemon, args[0])
			if err != nil {
				return nil, err
			}
			bind.Path = &path
		}
		bind.Ro = said(cmd.Flags(), "ro", ro)
		bind.Recursive = said(cmd.Flags(), "recursive", recursive)
		return &models.Mount{Kind: models.MountKindBind, Bind: bind}, nil
	})
	cmd.Flags().BoolVar(&ro, "ro", false, "read-only, with everything below when recursive")
	cmd.Flags().BoolVar(&recursive, "recursive", false, "with what is mounted below")
	cmd.Flags().Int64Var(&mount, "in-mount", 0, "the path lies in the mount with this id")
	return cmd
}

func (a *app) mountTmpfsCommand() *cobra.Command {
	var (
		size   sizeFlag
		inodes int64
		mode   string
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "tmpfs",
		Short: "Mount an empty file system in memory",
		Example: `  windlass mount tmpfs --size 1G
  windlass mount tmpfs --size 64M --inodes 10000 --mode 1777`,
		Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string) (*models.Mount, error) {
		return &models.Mount{Kind: models.MountKindTmpfs, Tmpfs: &models.MountTmpfs{
			Size: int64(size), Inodes: inodes, Mode: said(cmd.Flags(), "mode", mode)}}, nil
	})
	cmd.Flags().Var(&size, "size", "limit; unsaid, half of the memory")
	cmd.Flags().Int64Var(&inodes, "inodes", 0, "limit of files")
	cmd.Flags().StringVar(&mode, "mode", "", "mode of its root in octal (default 0755)")
	return cmd
}

func (a *app) mountURICommand() *cobra.Command {
	var (
		size           sizeFlag
		digest, format string
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "uri URL",
		Short: "Mount an image or archive that is fetched into memory",
		Long:  "Fetch an image or archive whole into memory and mount it: squashfs, erofs, or a tar (plain, gzip, zstd, xz).",
		Example: `  windlass mount uri https://images.example.org/debian.sqsh
  windlass mount uri http://head/root.tar.zst --size 2G --digest sha256:…`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string) (*models.Mount, error) {
		m := uriMount(args[0])
		m.URI.Digest, m.URI.Size, m.URI.Format = digest, int64(size), said(cmd.Flags(), "format", format)
		return m, nil
	})
	cmd.Flags().StringVar(&digest, "digest", "", "what the fetched bytes must have, as sha256:HEX")
	cmd.Flags().StringVar(&format, "format", "", "auto, squashfs, erofs or tar (default auto: look at the first bytes)")
	cmd.Flags().Var(&size, "size", "limit of the memory it may take; unsaid, half of the memory")
	return cmd
}

func uriMount(uri string) *models.Mount {
	return &models.Mount{Kind: models.MountKindURI, URI: &models.MountURI{URI: &uri}}
}
