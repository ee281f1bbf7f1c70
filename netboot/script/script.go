// Package script makes what a node is told to boot: its kernel's command line, and the script for iPXE, from templates.
//
// Templates see the configuration and the node's MAC, which was parsed. Nothing else that a node sends gets into them, so there is nothing
// to escape. All templates of a configuration are compiled and tried at once, so that a mistake is told before a node boots.
package script

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
)

// The paths of the web server that scripts name.
const (
	FilesPath  = "/files/"
	ImagesPath = "/images/"
	ReportPath = "/report"
	IPXEPath   = "/boot/ipxe"
	BinPath    = "/ipxe/"
)

const (
	// maxCommandLine is what the kernel takes on x86, without the final NUL.
	maxCommandLine = 2047
	maxScript      = 64 << 10
)

// Set is the compiled templates of a configuration. It does not change, and may be used by several goroutines.
type Set struct {
	c       *config.Config
	nodes   map[string]config.Node
	lines   map[string]*template.Template // command lines by group
	scripts map[string]*template.Template
}

// Compile compiles and tries all templates: each group's as an unlisted node, and each node's. All errors are told, joined.
func Compile(c *config.Config) (*Set, error) {
	s := &Set{c: c, nodes: map[string]config.Node{}, lines: map[string]*template.Template{}, scripts: map[string]*template.Template{}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		line, err1 := compile("command_line", g.CommandLine)
		text := g.Script
		if text == "" {
			text = builtin
		}
		script, err2 := compile("script", text)
		if err := errors.Join(err1, err2); err != nil {
			errs = append(errs, fmt.Errorf("groups.%s: %w", name, err))
			continue
		}
		s.lines[name], s.scripts[name] = line, script
	}
	for _, n := range c.Nodes {
		s.nodes[n.MAC] = n
		if s.lines[n.Group] == nil {
			continue // told above
		}
		if _, err := s.IPXE(n.MAC, "http://192.0.2.1:8080"); err != nil {
			errs = append(errs, fmt.Errorf("nodes.%s: %w", n.Name, err))
		}
	}
	if g := c.DefaultGroup; g != "" && s.lines[g] != nil {
		if _, err := s.IPXE("02:00:00:00:00:00", "http://192.0.2.1:8080"); err != nil {
			errs = append(errs, fmt.Errorf("default_group: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	return s, nil
}

// Layer is one part of an initramfs.
type Layer struct {
	Name string // as initrd= calls it under UEFI; a kernel's begins with BOOT_IMAGE=
	Path string // below files
	URL  string
}

// Boot is what a template sees.
type Boot struct {
	Name   string // of the node; node-525400123456 when it is not listed
	MAC    string // with colons
	Hyphen string // the MAC with hyphens
	IP     string // of the configuration; may be empty
	Group  string
	Params map[string]string // the group's, and the node's over them
	Server string            // URL of the web server, without a slash at the end
	Kernel Layer
	Layers []Layer
	// CommandLine is the rendered command line; templates of command lines do not have it.
	CommandLine string
	Report      string // URL that stages are reported to; empty when they are not
	Script      string // URL of this script
}

// Node finds what a MAC boots as. It is false for who is to be ignored.
func (s *Set) Node(mac string) (config.Node, bool) {
	if n, ok := s.nodes[mac]; ok {
		return n, true
	}
	if s.c.DefaultGroup == "" {
		return config.Node{}, false
	}
	return config.Node{Name: "node-" + strings.ReplaceAll(mac, ":", ""), MAC: mac, Group: s.c.DefaultGroup}, true
}

// Boot renders what a node boots, with URLs that begin with server. The error is NotFound for who is to be ignored.
func (s *Set) Boot(mac, server string) (*Boot, error) {
	n, ok := s.Node(mac)
	if !ok {
		return nil, fault.New(fault.NotFound, "%s is not a listed node", mac)
	}
	return s.boot(n, server)
}

func (s *Set) boot(n config.Node, server string) (*Boot, error) {
	g := s.c.Groups[n.Group]
	b := &Boot{Name: n.Name, MAC: n.MAC, Hyphen: strings.ReplaceAll(n.MAC, ":", "-"), Group: n.Group, Params: map[string]string{}, Server: server}
	if n.IP.IsValid() {
		b.IP = n.IP.String()
	}
	maps.Copy(b.Params, g.Params)
	maps.Copy(b.Params, n.Params)
	if g.Kernel != "" {
		// UEFI's iPXE puts the name before the command line: as a setting that kernels know it is no word that init has to make sense of
		b.Kernel = layer(server, "BOOT_IMAGE="+path.Base(g.Kernel), g.Kernel)
	}
	for i, p := range g.Initramfs {
		b.Layers = append(b.Layers, layer(server, fmt.Sprintf("initramfs%d", i), p))
	}
	if s.c.Report {
		b.Report = server + ReportPath
	}
	b.Script = server + IPXEPath + "?mac=" + b.MAC
	line, err := execute(s.lines[n.Group], b, maxScript)
	if err != nil {
		return nil, fmt.Errorf("command_line: %w", err)
	}
	b.CommandLine, err = commandLine(line, b)
	if err != nil {
		return nil, fmt.Errorf("command_line: %w", err)
	}
	return b, nil
}

func layer(server, name, p string) Layer {
	return Layer{Name: name, Path: p, URL: server + FilesPath + escape(p)}
}

// escape makes a path fit for a URL.
func escape(p string) string { return (&url.URL{Path: p}).EscapedPath() }

// commandLine adds what every node is told, and judges the line as a kernel and as iPXE read it.
func commandLine(line string, b *Boot) (string, error) {
	words := strings.Fields(line)
	if !has(words, "BOOTIF=") {
		words = append(words, "BOOTIF=01-"+b.Hyphen)
	}
	if b.Report != "" && !has(words, "windlass.report=") {
		words = append(words, "windlass.report="+b.Report)
	}
	for _, w := range words {
		if w == "||" || w == "&&" || w == ";" || w[0] == '#' {
			return "", fmt.Errorf("the word %q would end the line in iPXE", w)
		}
		if strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
			return "", fmt.Errorf("the word %q has characters that cannot be printed", w)
		}
	}
	line = strings.Join(words, " ")
	if len(line) > maxCommandLine {
		return "", fmt.Errorf("it has %d bytes; the kernel takes %d", len(line), maxCommandLine)
	}
	return line, nil
}

func has(words []string, prefix string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, prefix) })
}

// IPXE renders the iPXE script for a node.
func (s *Set) IPXE(mac, server string) (string, error) {
	b, err := s.Boot(mac, server)
	if err != nil {
		return "", err
	}
	return s.script(b)
}

func (s *Set) script(b *Boot) (string, error) {
	text, err := execute(s.scripts[b.Group], b, maxScript)
	if err != nil {
		return "", fmt.Errorf("script: %w", err)
	}
	if !strings.HasPrefix(text, "#!ipxe") {
		return "", errors.New("script: it must begin with #!ipxe")
	}
	return text, nil
}
