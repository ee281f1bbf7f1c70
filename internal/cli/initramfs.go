package cli

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func (a *app) initramfsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "initramfs",
		Short: "Build and look at what nodes boot with",
		Long: `Build the first file system of nodes that have nothing on disk: windlass as init, the kernel's modules, and the site's files. No root and no
daemon is needed.`,
		Example: `  windlass initramfs build --kernel /boot/vmlinuz-6.1.0-18-amd64 --modules /lib/modules/6.1.0-18-amd64 -o initramfs.img
  windlass initramfs ls initramfs.img`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []*cobra.Command{a.initramfsBuildCommand(), a.initramfsLsCommand(), a.initramfsToolsCommand()} {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error { return storeError(run(cmd, args)) }
		cmd.AddCommand(c)
	}
	return cmd
}

// programFlags say which programs are packed.
type programFlags struct{ windlass, shim string }

func (p *programFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.windlass, "windlass", "", "the program for the node (default this one)")
	cmd.Flags().StringVar(&p.shim, "shim", "", "its windlass-shim (default the one beside it, else in PATH)")
}

// find says which programs these are, where nobody does.
func (p *programFlags) find(o *initramfs.Options) error {
	self := p.windlass
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			return fault.Hintf(fault.New(fault.NotFound, "find this program: %w", err), "name it: --windlass FILE")
		}
	}
	shim := p.shim
	if shim == "" {
		shim = filepath.Join(filepath.Dir(self), "windlass-shim")
		if _, err := os.Stat(shim); err != nil {
			if shim, err = exec.LookPath("windlass-shim"); err != nil {
				return fault.Hintf(fault.New(fault.NotFound, "windlass-shim is neither beside %s nor in PATH", self), "name it: --shim FILE")
			}
		}
	}
	o.Windlass, o.Shim = self, shim
	return nil
}

// packFlags say how a file is packed.
type packFlags struct {
	output, compress string
	level            int
}

func (p *packFlags) register(cmd *cobra.Command, what, compress string) {
	cmd.Flags().StringVarP(&p.output, "output", "o", "", what)
	cmd.Flags().StringVar(&p.compress, "compress", compress, "how layers are compressed: zstd, xz, gzip or none")
	cmd.Flags().IntVar(&p.level, "level", 0, "of the compression; 0 is its own")
}

// pack fills in how it is packed, and the time of all files.
func (a *app) pack(cmd *cobra.Command, p *packFlags, o *initramfs.Options) error {
	o.Compress, o.Level = initramfs.Compression(p.compress), p.level
	epoch := a.env("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return nil
	}
	seconds, err := strconv.ParseUint(epoch, 10, 32)
	if err != nil {
		return usagef(cmd, "SOURCE_DATE_EPOCH: %q is no number of seconds since 1970", epoch)
	}
	o.Time = uint32(seconds)
	return nil
}

// rescueCache is where built rescue layers are kept.
func (a *app) rescueCache() string {
	if dir := cmp.Or(a.env("XDG_CACHE_HOME"), under(a.env("HOME"), ".cache")); dir != "" {
		return filepath.Join(dir, "windlass")
	}
	return filepath.Join(os.TempDir(), "windlass-cache-"+strconv.Itoa(os.Getuid()))
}

func under(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}
