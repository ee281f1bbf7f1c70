package cli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/netboot"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/export"
)

func (a *app) netbootExportCommand() *cobra.Command {
	var file, format, to, root string
	var o export.Options
	cmd := &cobra.Command{
		Use:   "export --format dnsmasq|ipxe|pxelinux [--to DIR]",
		Short: "Write the configuration for servers that are there already",
		Long: `Write what serve would do as files for other servers:

  dnsmasq   dnsmasq.conf, and tftp/ with boot programs and scripts for iPXE
  ipxe      boot.ipxe, and a script for each node, for any TFTP or web server
  pxelinux  pxelinux.cfg/, and a link to the kernels, for a TFTP root that has PXELINUX

Kernels (but for pxelinux) and images come by HTTP from --url, where /files, /images and /ipxe are the directories of the configuration: any
web server will do that knows Range requests. Without --to the texts are shown.`,
		Example: `  windlass netboot export --format dnsmasq --to /srv/netboot
  dnsmasq --test -C /srv/netboot/dnsmasq.conf
  windlass netboot export -f netboot.yaml --format ipxe --url http://head/boot --to /var/www/boot
  windlass netboot export -f netboot.yaml --format pxelinux`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			site, scripts, err := netboot.Load(file)
			if err != nil {
				return err
			}
			o.Format = export.Format(format)
			if o.Root, err = tftpRoot(root, to); err != nil {
				return err
			}
			tree, err := export.Build(site, scripts, o)
			if err != nil {
				return err
			}
			if to == "" {
				return tree.Print(a.out)
			}
			if err := tree.Write(cmd.Context(), to); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%d files are in %s\n", len(tree.Files)+len(tree.Copies)+len(tree.Links), to)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", config.DefaultFile, "the configuration")
	f.StringVar(&format, "format", "", "dnsmasq, ipxe or pxelinux")
	f.StringVar(&to, "to", "", "directory to write into; files in it that have other names are left alone")
	f.StringVar(&o.URL, "url", "", "how nodes reach the web server (default as the configuration says)")
	f.StringVar(&root, "tftp-root", "", "where the TFTP root will lie, for dnsmasq.conf (default tftp below --to)")
	must(cmd.MarkFlagRequired("format"))
	must(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"dnsmasq", "ipxe", "pxelinux"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// tftpRoot is what dnsmasq.conf names as its root.
func tftpRoot(root, to string) (string, error) {
	if root != "" {
		return root, nil
	}
	if to == "" {
		return "/srv/tftp", nil
	}
	return filepath.Abs(filepath.Join(to, "tftp"))
}
