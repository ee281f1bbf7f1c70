package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
)

// initramfsFlags say what an initramfs holds.
type initramfsFlags struct {
	programFlags
	packFlags
	initramfs.Options
	preset, format string
	files          []string
	dry            bool
}

func (a *app) initramfsBuildCommand() *cobra.Command {
	var b initramfsFlags
	cmd := &cobra.Command{
		Use:   "build [--kernel VMLINUZ] [--modules DIR] -o FILE",
		Short: "Build an initramfs",
		Long: `Build an initramfs out of up to four layers: base (windlass, its shim, a root), kmod (kernel modules with all that they need, and an index by
which windlass loads them as /sbin/modprobe), rescue (u-root's commands, built by the go command) and config (the site's files). Each is
compressed by itself, and one follows the other: --layer writes some of them, and "cat" puts them together. The same input gives the same
bytes; SOURCE_DATE_EPOCH is the time of all files, 1970 without it.

A module is named by its name, by an alias such as fs-erofs or pci:v000015B3d…, or by its file. What a preset would have and the kernel has
not is left out. Files belong to root on the node. An initramfs with a file that is closed to others is closed, too; but whoever may fetch
it from a boot server can read all that is in it.`,
		Example: `  windlass initramfs build --kernel /boot/vmlinuz-6.1.0-18-amd64 --modules /lib/modules/6.1.0-18-amd64 -o initramfs.img
  windlass initramfs build --modules ./tree --preset minimal --module mlx5_core --load nvme --config windlass.yaml --rescue -o initramfs.img
  windlass initramfs build --overlay ./site --file ca.pem:/etc/windlass/ca.pem --layer config -o site.img
  cat base.img kmod.img site.img > initramfs.img`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.buildInitramfs(cmd, &b) },
	}
	f := cmd.Flags()
	b.packFlags.register(cmd, "file to write", string(initramfs.Zstd))
	f.StringVar(&b.format, "format", formatTable, "how to answer: table, json or yaml")
	f.StringVar(&b.Kernel, "kernel", "", "the kernel; modules must be its own, and it must be able to unpack the initramfs")
	f.StringVar(&b.Modules, "modules", "", "directory of its modules, such as /lib/modules/VERSION, or a root that holds it")
	f.StringVar(&b.preset, "preset", "", "which modules: minimal (virtual machines), hpc (clusters), all, none (default hpc)")
	f.StringArrayVar(&b.Module, "module", nil, "one module more, with what it needs; may be given again")
	f.StringArrayVar(&b.Load, "load", nil, "a module that is loaded when the node starts, not when it is needed; may be given again")
	f.StringVar((*string)(&b.ModuleCompress), "module-compress", "",
		"how each module is compressed by itself until it is loaded, which saves the node's memory: zstd or none (default zstd, none without the layer base)")
	f.StringVar(&b.Firmware, "firmware", "", "directory, such as /lib/firmware, out of which the firmware that modules name is packed")
	f.StringArrayVar(&b.Config, "config", nil, "the daemon's configuration; what is given after it goes to /etc/windlass under its own name")
	f.StringArrayVar(&b.Overlay, "overlay", nil, "directory to copy over the root; may be given again")
	f.StringArrayVar(&b.files, "file", nil, "one file, FROM:TO[:MODE]; may be given again")
	f.StringVar(&b.CA, "ca", "", "file of certificate authorities that the node trusts, such as /etc/ssl/certs/ca-certificates.crt")
	f.BoolVar(&b.Rescue, "rescue", false, "add u-root's commands; Go 1.26 builds them, once")
	f.StringVar(&b.RescueCache, "rescue-cache", "", "directory in which built commands are kept (default windlass in the user's cache)")
	f.StringArrayVar(&b.Only, "layer", nil, "write this layer alone: "+strings.Join(initramfs.Layers(), ", ")+"; may be given again")
	f.BoolVar(&b.dry, "dry-run", false, "only say what it would hold")
	b.programFlags.register(cmd)
	must(cmd.MarkFlagDirname("modules"))
	return cmd
}

// options is what the flags say.
func (a *app) initramfsOptions(cmd *cobra.Command, b *initramfsFlags) (initramfs.Options, error) {
	o := b.Options
	if b.output == "" && !b.dry {
		return o, usagef(cmd, "say where the initramfs goes: -o FILE")
	}
	if !contains(formats(), b.format) {
		return o, usagef(cmd, "--format: %q is none of %s", b.format, strings.Join(formats(), ", "))
	}
	if b.preset == "" && o.Modules != "" {
		b.preset = string(kmod.HPC)
	}
	if b.preset == "none" {
		b.preset = ""
	}
	var err error
	if o.Preset, err = kmod.ParsePreset(b.preset); err != nil {
		return o, usagef(cmd, "--preset: %w", err)
	}
	for _, text := range b.files {
		f, err := initramfs.ParseFile(text)
		if err != nil {
			return o, usagef(cmd, "--file: %w", err)
		}
		o.Files = append(o.Files, f)
	}
	if o.RescueCache == "" {
		o.RescueCache = a.rescueCache()
	}
	if err := b.find(&o); err != nil {
		return o, err
	}
	return o, a.pack(cmd, &b.packFlags, &o)
}

func (a *app) buildInitramfs(cmd *cobra.Command, b *initramfsFlags) error {
	o, err := a.initramfsOptions(cmd, b)
	if err != nil {
		return err
	}
	a.output = b.format
	began := a.opts.Now()
	p, err := initramfs.Prepare(cmd.Context(), o)
	if err != nil {
		return err
	}
	a.remarks(p)
	if b.dry {
		if err := p.Measure(); err != nil {
			return err
		}
		answer := newPacked(p, "", 0, 0)
		return a.print(answer, answer.write)
	}
	n, err := a.writeInitramfs(cmd.Context(), p, b.output)
	if err != nil {
		return err
	}
	answer := newPacked(p, b.output, n, a.opts.Now().Sub(began))
	return a.print(answer, answer.write)
}

// remarks tells what its user should know, and why things are not in it to who wants to hear more.
func (a *app) remarks(p *initramfs.Plan) {
	for _, w := range p.Warnings {
		fmt.Fprintf(a.err, "windlass: %s\n", printable(w))
	}
	if !a.verbose {
		return
	}
	if len(p.Missing) > 0 {
		fmt.Fprintf(a.err, "windlass: the kernel has no module %s\n", printable(strings.Join(p.Missing, ", ")))
	}
	for _, n := range p.Notes {
		fmt.Fprintf(a.err, "windlass: %s\n", printable(n))
	}
}

func (a *app) writeInitramfs(ctx context.Context, p *initramfs.Plan, file string) (int64, error) {
	show := a.bar("packing")
	told := make(chan int64, 1)
	drawn := make(chan struct{})
	go func() {
		defer close(drawn)
		for packed := range told {
			show.set(packed, 0)
		}
	}()
	n, err := p.Write(ctx, file, func(packed int64) {
		select {
		case told <- packed:
		default: // who draws is busy with an older one
		}
	})
	close(told)
	<-drawn
	show.end()
	return n, err
}

// packedLayer and packed are what build answers.
type packedLayer struct {
	Layer   string  `json:"layer"`
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Stored  int64   `json:"stored,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

type packed struct {
	File    string        `json:"file,omitempty"`
	Kernel  string        `json:"kernel,omitempty"`
	Modules int           `json:"modules"`
	Missing []string      `json:"missing,omitempty"`
	Layers  []packedLayer `json:"layers"`
	Bytes   int64         `json:"bytes"`
	Seconds float64       `json:"seconds"`
}

func newPacked(p *initramfs.Plan, file string, n int64, took time.Duration) *packed {
	answer := &packed{File: file, Kernel: p.Release, Modules: p.Modules, Missing: p.Missing, Bytes: n, Seconds: took.Seconds(), Layers: []packedLayer{}}
	for _, l := range p.Layers {
		answer.Layers = append(answer.Layers, packedLayer{l.Name, l.Files, l.Bytes, l.Stored, l.Took.Seconds()})
	}
	return answer
}

func (p *packed) write(w io.Writer) error {
	t := &table{head: []string{"LAYER", "FILES", "SIZE", "PACKED", "TOOK"}}
	var bytes int64
	for _, l := range p.Layers {
		stored, took := "", ""
		if p.File != "" {
			stored, took = size(l.Stored), lasted(l.Seconds)
		}
		t.add(l.Layer, fmt.Sprint(l.Files), size(l.Bytes), stored, took)
		bytes += l.Bytes
	}
	if err := t.write(w); err != nil {
		return err
	}
	var f facts
	if p.Modules > 0 {
		f.add("kernel", "%s, %d modules", p.Kernel, p.Modules)
	} else if p.Kernel != "" {
		f.add("kernel", "%s, no modules", p.Kernel)
	}
	if p.File != "" {
		f.add("file", "%s, %s of %s, in %s", p.File, size(p.Bytes), size(bytes), lasted(p.Seconds))
	}
	return f.write(w)
}

func lasted(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(10 * time.Millisecond).String()
}
