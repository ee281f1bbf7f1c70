package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/specfile"
)

// The defaults.
const (
	DefaultFile     = "/etc/windlass/netboot.yaml"
	DefaultStateDir = "/var/lib/windlass/netboot"
	DefaultIPXE     = "/usr/lib/ipxe"
	defaultHTTP     = "0.0.0.0:8080"
	defaultTFTP     = "0.0.0.0:69"
	off             = "off"
)

// maxFile bounds the configuration file: enough for a hundred thousand nodes.
const maxFile = 64 << 20

// Load reads and judges a file. A relative path in it is below the file's directory.
func Load(path string) (*Config, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fault.Hintf(fault.New(fault.NotFound, "read the configuration: %w", err), "name it: -f FILE; docs/netboot.yaml is an example")
	}
	if st.Size() > maxFile || !st.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "read the configuration: %s is no file of at most %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse judges the text of a file; name stands before each problem. All problems are told at once, as specfile.Problems of kind Invalid.
func Parse(name string, data []byte) (*Config, error) {
	var f file
	if err := specfile.Decode(name, data, &f); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	j := judge{name: name, dir: filepath.Dir(name)}
	c := j.config(&f)
	if len(j.problems) > 0 {
		return nil, fault.New(fault.Invalid, "%w", j.problems)
	}
	return c, nil
}

// judge gathers what is wrong.
type judge struct {
	name, dir string
	problems  specfile.Problems
}

func (j *judge) addf(path, format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf("%s: %s: %s", j.name, path, fmt.Sprintf(format, args...)))
}

func (j *judge) config(f *file) *Config {
	c := &Config{
		StateDir: j.path(cmp.Or(f.StateDir, DefaultStateDir)), Files: j.path(f.Files), Images: j.path(f.Images),
		Report: f.Report == nil || *f.Report, Log: j.log(f.Log), HTTP: j.http(f.HTTP), IPXE: j.ipxe(f.IPXE),
	}
	c.TFTP = TFTP{Listen: j.listen("tftp.listen", f.TFTP.Listen, defaultTFTP)}
	c.Subnets = j.subnets(f.Subnets)
	c.Interfaces = j.interfaces(f.Interfaces, c.Subnets)
	c.Groups = j.groups(f.Groups, c.Files)
	c.DefaultGroup = j.unknown(f, c.Groups)
	c.Nodes = j.nodes(f.Nodes, c)
	return c
}

// path makes a path absolute; an empty one stays so.
func (j *judge) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	abs, err := filepath.Abs(filepath.Join(j.dir, p))
	if err != nil {
		j.addf(p, "%v", err)
	}
	return abs
}

func (j *judge) log(f fileLog) Log {
	l := Log{Level: cmp.Or(f.Level, "info"), Format: cmp.Or(f.Format, "text")}
	j.oneOf("log.level", l.Level, "error", "warn", "info", "debug")
	j.oneOf("log.format", l.Format, "text", "json")
	return l
}

func (j *judge) oneOf(path, value string, words ...string) {
	if !slices.Contains(words, value) {
		j.addf(path, "%q is none of %s", value, strings.Join(words, ", "))
	}
}

func (j *judge) ipxe(f fileIPXE) IPXE {
	x := IPXE{Dir: j.path(cmp.Or(f.Dir, DefaultIPXE)), Programs: map[Platform]string{}}
	for p, name := range map[Platform]string{BIOS: f.BIOS, EFI32: f.EFI32, EFI64: f.EFI64, ARM64: f.ARM64} {
		if name != "" {
			j.below("ipxe."+string(p), name)
			x.Programs[p] = name
		}
	}
	return x
}

// below judges a path that must stay below a directory that is published.
func (j *judge) below(path, name string) {
	if name == "" || !filepath.IsLocal(name) || name != filepath.Clean(name) || strings.ContainsAny(name, "\\ \t\r\n#?%,;'\"<>") || !printable(name) {
		j.addf(path, "%q must be a plain path below the directory, without blanks, quotes, commas, %%, # and ?", name)
	}
}

func (j *judge) unknown(f *file, groups map[string]Group) string {
	mode := cmp.Or(f.Unknown, "ignore")
	j.oneOf("unknown", mode, "ignore", "default-group")
	if mode == "ignore" {
		return ""
	}
	if f.DefaultGroup == "" {
		j.addf("default_group", "unknown: default-group needs one; there are %s", names(groups))
	} else if _, ok := groups[f.DefaultGroup]; !ok {
		j.addf("default_group", "there is no group %q; there are %s", f.DefaultGroup, names(groups))
	}
	return f.DefaultGroup
}

func (j *judge) groups(in map[string]*fileGroup, files string) map[string]Group {
	groups := map[string]Group{}
	for _, name := range sorted(in) {
		f, at := in[name], "groups."+name
		if f == nil {
			f = &fileGroup{}
		}
		if !label(name) {
			j.addf(at, "the name must be letters, digits and '-', at most 63")
		}
		g := Group{Name: name, Kernel: f.Kernel, Initramfs: f.Initramfs, CommandLine: strings.Join(strings.Fields(f.CommandLine), " "), Params: f.Params}
		g.Script = j.script(at, f)
		j.params(at, f.Params)
		if g.Kernel == "" && g.Script == "" {
			j.addf(at, "a kernel is needed, or a script of your own")
		}
		if files == "" && (g.Kernel != "" || len(g.Initramfs) > 0) {
			j.addf(at, "the kernel lies below `files`, which is not set")
		}
		for i, p := range slices.Concat([]string{g.Kernel}, g.Initramfs) {
			if i > 0 || p != "" {
				j.below(at, p)
			}
		}
		groups[name] = g
	}
	return groups
}

func (j *judge) script(at string, f *fileGroup) string {
	if f.ScriptFile == "" {
		return f.Script
	}
	if f.Script != "" {
		j.addf(at, "script and script_file exclude each other")
	}
	data, err := os.ReadFile(j.path(f.ScriptFile))
	if err != nil {
		j.addf(at+".script_file", "%v", err)
	} else if len(data) == 0 || len(data) > 1<<20 {
		j.addf(at+".script_file", "%s has %d bytes; 1 to 1 MiB can be", f.ScriptFile, len(data))
	}
	return string(data)
}

func (j *judge) params(at string, params map[string]string) {
	for _, k := range sorted(params) {
		if !identifier(k) {
			j.addf(at+".params."+k, "the name must be letters, digits and '_', not beginning with a digit")
		}
		if !printable(params[k]) {
			j.addf(at+".params."+k, "the value must be printable, in one line")
		}
	}
}
