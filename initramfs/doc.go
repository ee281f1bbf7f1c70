// Package initramfs builds the first file system of a node: windlass as its init, the kernel modules, tools for a rescue and the site's
// files.
//
// It is made of layers, each an archive of its own and compressed by itself; the kernel unpacks one after the other, so they can be built
// apart and concatenated. The same input gives the same bytes. The package writes nothing but its output and the cache of the rescue
// layer; it knows nothing of what runs on the node.
package initramfs

import (
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// The layers, in the order in which they are written. What a later one holds replaces what an earlier one has under the same name.
const (
	LayerBase   = "base"   // windlass and the directories
	LayerKmod   = "kmod"   // kernel modules and their index
	LayerRescue = "rescue" // u-root's commands
	LayerConfig = "config" // the site's files
)

// Layers lists them.
func Layers() []string { return []string{LayerBase, LayerKmod, LayerRescue, LayerConfig} }

// Options say what is built.
type Options struct {
	Windlass, Shim string // the programs
	CA             string // file of certificate authorities; "" for none

	Kernel   string // file of the kernel; "" when it is not at hand
	Modules  string // directory of its modules; "" for none
	Module   []string
	Load     []string // modules that are loaded when the node starts; they are packed, too
	Preset   kmod.Preset
	Firmware string // directory in which files for devices are looked for; "" for none

	Rescue      bool
	RescueCache string // directory in which built rescue layers are kept
	Go          string // the go command that builds them; "" looks in PATH

	Config  []string // configuration of the daemon, and more files for /etc/windlass
	Overlay []string // directories that are copied over the root
	Files   []File

	Only     []string // layers to write; all that there are when it is empty
	Compress Compression
	Level    int // of the compression; 0 is its own
	// ModuleCompress is how each module is compressed by itself, and stays so on the node until it is loaded: zstd or none. "" is zstd when the
	// layer base, whose modprobe knows it, is written too.
	ModuleCompress Compression
	Time           uint32 // of all files, in seconds since 1970
}

// File is a file to pack.
type File struct {
	From, To string
	Mode     uint32 // 0 is that of From, as far as others may not write it
}

// ParseFile takes FROM:TO[:MODE].
func ParseFile(text string) (File, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || strings.Trim(parts[1], "/") == "" {
		return File{}, fault.New(fault.Invalid, "%q does not say what goes where: write FROM:TO or FROM:TO:MODE, such as key.pem:/etc/key.pem:0600", text)
	}
	f := File{From: parts[0], To: strings.Trim(parts[1], "/")}
	if len(parts) == 3 {
		mode, err := parseMode(parts[2])
		if err != nil {
			return File{}, fault.New(fault.Invalid, "%q: %w", text, err)
		}
		f.Mode = mode
	}
	return f, nil
}

// wants says whether the layer is to be built.
func (o *Options) wants(layer string) bool {
	if len(o.Only) > 0 && !slices.Contains(o.Only, layer) {
		return false
	}
	switch layer {
	case LayerKmod:
		return o.Modules != ""
	case LayerRescue:
		return o.Rescue || len(o.Only) > 0
	case LayerConfig:
		return len(o.Config)+len(o.Overlay)+len(o.Files) > 0
	}
	return true
}

// check refuses what cannot be right before anything is read.
func (o *Options) check() error {
	for _, l := range o.Only {
		if !slices.Contains(Layers(), l) {
			return fault.New(fault.Invalid, "there is no layer %q; there are %s", l, strings.Join(Layers(), ", "))
		}
	}
	if o.Modules == "" && (len(o.Module)+len(o.Load) > 0 || o.Preset != "" || slices.Contains(o.Only, LayerKmod)) {
		return fault.Hintf(fault.New(fault.Invalid, "modules are asked for, and not where they are"), "name their directory: --modules /lib/modules/VERSION")
	}
	if slices.Contains(o.Only, LayerConfig) && !o.wants(LayerConfig) {
		return fault.Hintf(fault.New(fault.Invalid, "the layer config would be empty"), "say what goes into it: --config, --overlay or --file")
	}
	if c := o.ModuleCompress; c != "" && c != Zstd && c != None {
		return fault.New(fault.Invalid, "modules are not compressed by %q; there are zstd and none", c)
	}
	return o.Compress.check(o.Level)
}
