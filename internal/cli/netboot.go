package cli

import (
	"context"
	"errors"
	"io"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot"
	"github.com/windlass-hpc/windlass/netboot/config"
)

func (a *app) netbootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "netboot",
		Short: "Boot nodes over the network",
		Long: `Boot nodes that have nothing on disk: DHCP, or what to boot beside a DHCP server that is there already, TFTP and HTTP, all from one
configuration, netboot.yaml. For clusters with boot servers of their own the same is written as files for those.`,
		Example: `  windlass netboot config check netboot.yaml
  windlass netboot serve -f netboot.yaml
  windlass netboot nodes
  windlass netboot export -f netboot.yaml --format dnsmasq --to /srv/netboot`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	checks := &cobra.Command{
		Use:     "config",
		Short:   "Check a configuration of the boot server",
		Example: "  windlass netboot config check netboot.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := a.netbootCheckCommand()
	checks.AddCommand(check)
	subs := []*cobra.Command{a.netbootServeCommand(), checks, a.netbootNodesCommand(), a.netbootExportCommand()}
	for _, c := range append(subs, check) {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error { return storeError(run(cmd, args)) }
	}
	cmd.AddCommand(subs...)
	return cmd
}

func (a *app) netbootServeCommand() *cobra.Command {
	var file, ready string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer nodes that boot",
		Long: `Answer nodes until told to end: DHCP on the interfaces of the configuration, TFTP and HTTP. What happens is logged, one line each. Leases
are kept on disk; a server that is killed goes on where it was when it is started again. Ports below 1024 and DHCP need root.`,
		Example: `  windlass netboot serve
  windlass netboot serve -f ./netboot.yaml
  windlass netboot serve -f netboot.yaml --ready-file /run/netboot.url`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			site, scripts, err := netboot.Load(file)
			if err != nil {
				return err
			}
			log, err := netbootLog(site.Log, a.err)
			if err != nil {
				return err
			}
			o := netboot.Options{Site: site, Scripts: scripts, Log: log}
			if ready != "" {
				o.Ready = func(url string) error {
					return durable.WriteFile(context.WithoutCancel(cmd.Context()), ready, []byte(url+"\n"), 0o644)
				}
			}
			return netboot.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", config.DefaultFile, "the configuration")
	cmd.Flags().StringVar(&ready, "ready-file", "", "write the URL of the web server into this file when everything answers")
	return cmd
}

func netbootLog(l config.Log, out io.Writer) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(out)
	level, err := logrus.ParseLevel(l.Level)
	if err != nil {
		return nil, err
	}
	log.SetLevel(level)
	if l.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
	return log, nil
}

// checkedNode is what check shows of a node.
type checkedNode struct {
	Name        string `json:"name"`
	MAC         string `json:"mac"`
	IP          string `json:"ip,omitempty"`
	Group       string `json:"group"`
	CommandLine string `json:"command_line"`
}

func (a *app) netbootCheckCommand() *cobra.Command {
	var elsewhere bool
	var file string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with a configuration, or what each node would boot",
		Long: `Read a configuration as serve would and tell everything that is wrong with it: keys and values, templates, and files that are named and are
not there. When nothing is, show what each node boots.`,
		Example: `  windlass netboot config check
  windlass netboot config check ./netboot.yaml
  windlass netboot config check --elsewhere head2.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.Flags().Changed("file") {
				return usagef(cmd, "name one configuration, %s or %s", args[0], file)
			}
			if len(args) > 0 {
				file = args[0]
			}
			site, scripts, err := netboot.Load(file)
			if err != nil {
				return err
			}
			if !elsewhere {
				if errs := site.CheckFiles(); len(errs) > 0 {
					errs = append(errs, errors.New("files are not looked for with --elsewhere, which is for the configuration of another machine"))
					return fault.New(fault.Invalid, "%w", joined(errs...))
				}
			}
			nodes := []checkedNode{}
			for _, n := range site.Nodes {
				b, err := scripts.Boot(n.MAC, "http://SERVER")
				if err != nil {
					return err
				}
				nodes = append(nodes, checkedNode{b.Name, b.MAC, b.IP, b.Group, b.CommandLine})
			}
			return a.print(nodes, func(w io.Writer) error { return writeChecked(w, nodes) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", config.DefaultFile, "the configuration, as with serve and export")
	cmd.Flags().BoolVar(&elsewhere, "elsewhere", false, "it is for another machine: do not look for files")
	return cmd
}

func writeChecked(w io.Writer, nodes []checkedNode) error {
	if _, err := io.WriteString(w, "# OK. These nodes boot:\n"); err != nil {
		return err
	}
	t := &table{head: []string{"NAME", "MAC", "IP", "GROUP", "COMMAND LINE"}}
	for _, n := range nodes {
		t.add(n.Name, n.MAC, n.IP, n.Group, n.CommandLine)
	}
	return t.write(w)
}
