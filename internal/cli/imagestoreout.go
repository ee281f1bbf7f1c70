package cli

import (
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image"
)

func (a *app) imageUnpackCommand() *cobra.Command {
	var anyOwner bool
	cmd := &cobra.Command{
		Use:   "unpack STORE#TAG DIRECTORY",
		Short: "Write the files of an image into a directory",
		Long: `Write the files of an image into a directory, which must be empty or not there, with all that they have: owners, modes, times, extended
attributes, links, devices, holes. Every byte is verified. Nothing outside of the directory is touched, whatever the image holds.`,
		Example: `  windlass image unpack /srv/images#debian/12 ./rootfs
  windlass image unpack http://head:8080#debian/12 ./rootfs --any-owner`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withImage(cmd, args[0], func(i *image.Image) error {
				left, show := &leftOut{w: a.err}, a.bar("unpacking")
				err := i.Unpack(cmd.Context(), args[1], image.UnpackOptions{AnyOwner: anyOwner, Skipped: left.add, Progress: show.set})
				show.end()
				left.end()
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&anyOwner, "any-owner", false, "let all files belong to who unpacks them: then it does not take root")
	return cmd
}

// exports are what an image is exported as.
func exports() []string { return []string{"erofs", "squashfs", "tar"} }

func (a *app) imageExportCommand() *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "export STORE#TAG FILE",
		Short: "Write an image as one file: EROFS, squashfs or tar",
		Long: `Write an image as one file that other programs read: an EROFS image (not compressed), a squashfs (by mksquashfs of squashfs-tools) or a tar
archive (pax format; FILE may be - for stdout). Unsaid, the end of FILE's name tells which. Tar and squashfs hold no sockets, and squashfs
no access lists; what is left out is told.`,
		Example: `  windlass image export /srv/images#debian/12 debian.erofs
  windlass image export /srv/images#debian/12 - --as tar | zstd > debian.tar.zst`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" {
				as = exportType(args[1])
			}
			if !contains(exports(), as) {
				return usagef(cmd, "say what to write: --as %s", strings.Join(exports(), ", --as "))
			}
			if args[1] == "-" && as != "tar" {
				return usagef(cmd, "only a tar archive can be written to stdout")
			}
			return withImage(cmd, args[0], func(i *image.Image) error { return a.exportImage(cmd, i, as, args[1]) })
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "erofs, squashfs or tar")
	must(cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(exports(), cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func exportType(file string) string {
	switch path.Ext(file) {
	case ".tar":
		return "tar"
	}
	return fsTypeOf(file)
}

func (a *app) exportImage(cmd *cobra.Command, i *image.Image, as, file string) error {
	left, show := &leftOut{w: a.err}, a.bar("exporting")
	o := image.ExportOptions{Skipped: left.add, Progress: show.set}
	defer left.end()
	defer show.end()
	switch {
	case file == "-":
		if terminal(a.out) != nil {
			return usageError{fmt.Errorf("a terminal is no place for an archive: redirect stdout"), ""}
		}
		return i.Tar(cmd.Context(), a.out, o)
	case as == "tar":
		return i.TarFile(cmd.Context(), file, o)
	case as == "erofs":
		return i.ErofsFile(cmd.Context(), file, o)
	}
	return i.SquashfsFile(cmd.Context(), file, o)
}
