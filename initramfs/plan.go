package initramfs

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/initramfs/rescue"
)

// Layer is one of the archives.
type Layer struct {
	Name   string
	Files  int           // entries, directories included; like those below known once it was packed
	Bytes  int64         // of the archive
	Stored int64         // of the archive, compressed
	Took   time.Duration // to pack and compress it

	tree *cpio.Tree
	make func(context.Context) (*cpio.Tree, error) // of a layer that takes long; nil else
	data []byte
}

// Plan is an initramfs before it is written: all that it holds is known, and nothing was packed.
type Plan struct {
	Release string // of the kernel; "" when nothing says it
	Layers  []*Layer
	Modules int      // kernel modules that are packed
	Missing []string // modules that the preset would have and the kernel has not

	Warnings []string // what its user should know
	Notes    []string // what explains why something is not in it
	Secret   bool     // it holds files that are not for everybody

	kernel   *Kernel
	compress Compression
	level    int
	time     uint32
}

// Prepare finds all that goes into the initramfs. It builds nothing and writes nothing.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Plan{compress: o.Compress, level: o.Level, time: o.Time}
	machine := elf.EM_NONE
	if o.Kernel != "" {
		k, err := ReadKernel(o.Kernel)
		if err != nil {
			return nil, err
		}
		p.kernel, p.Release, machine = k, k.Release, k.Machine
	}
	makers := map[string]func() (*cpio.Tree, error){
		LayerBase:   func() (*cpio.Tree, error) { return base(&o, machine) },
		LayerKmod:   func() (*cpio.Tree, error) { return p.modules(&o) },
		LayerConfig: func() (*cpio.Tree, error) { return p.site(&o) },
		LayerRescue: func() (*cpio.Tree, error) { return nil, nil },
	}
	for _, name := range Layers() {
		if !o.wants(name) {
			continue
		}
		tree, err := makers[name]()
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
		l := &Layer{Name: name, tree: tree}
		if name == LayerRescue {
			c := rescue.Config{Go: o.Go, Arch: goArch(machine), Cache: o.RescueCache}
			if l.make = c.Build; ctx.Err() == nil {
				l.tree, _ = c.Cached(ctx) // what is wrong is told when it is built
			}
		}
		p.Layers = append(p.Layers, l)
	}
	return p, p.kernel.takes(o.Compress)
}

// goArch is the machine as the go command has it; "" for one that is not known.
func goArch(machine elf.Machine) string {
	return map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64", elf.EM_PPC64: "ppc64le"}[machine]
}

// Measure counts what would be packed, without compressing it. A rescue layer that was never built stays at zero.
func (p *Plan) Measure() error {
	for _, l := range p.Layers {
		if l.tree == nil {
			continue
		}
		stats, err := l.tree.Write(io.Discard, p.time)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Name, err)
		}
		l.Files, l.Bytes = stats.Files, stats.Bytes
	}
	return nil
}
