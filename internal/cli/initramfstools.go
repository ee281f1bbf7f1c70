package cli

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
)

func (a *app) initramfsToolsCommand() *cobra.Command {
	var (
		programs programFlags
		pack     packFlags
		modprobe bool
	)
	cmd := &cobra.Command{
		Use:   "tools -o FILE|DIR/",
		Short: "Pack windlass for an initramfs that has its own init",
		Long: `Pack windlass, its shim and the name imageapi-server, by which boot scripts of the service before start it, as plain programs in /bin: as an
archive to append to an initramfs that has its own init, such as u-root with uinit, or into a directory that is there.`,
		Example: `  windlass initramfs tools -o tools.img
  cat layer0-base.img tools.img > layer0.img
  windlass initramfs tools -o ./layer0-files/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pack.output == "" {
				return usagef(cmd, "say where the tools go: -o FILE, or the directory -o DIR/")
			}
			var o initramfs.Options
			if err := programs.find(&o); err != nil {
				return err
			}
			if err := a.pack(cmd, &pack, &o); err != nil {
				return err
			}
			p, err := initramfs.Tools(o, modprobe)
			if err != nil {
				return err
			}
			if st, err := os.Stat(pack.output); strings.HasSuffix(pack.output, "/") || err == nil && st.IsDir() {
				return p.Unpack(cmd.Context(), pack.output)
			}
			_, err = p.Write(cmd.Context(), pack.output, nil)
			return err
		},
	}
	pack.register(cmd, "file to write, or a directory", string(initramfs.Gzip))
	cmd.Flags().BoolVar(&modprobe, "modprobe", false, "let windlass be /sbin/modprobe, too: it loads what a layer kmod of ours holds")
	programs.register(cmd)
	return cmd
}

// modprobe is the program by whose name the kernel has modules loaded.
const modprobe = "modprobe"

// runModprobe loads modules of the initramfs that this node was booted with.
func runModprobe(args []string, stdout, stderr io.Writer) int {
	return kmod.Modprobe(context.Background(), args, "/", stdout, stderr)
}
