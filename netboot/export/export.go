// Package export writes the configuration of the boot server as files for servers that a site has already: dnsmasq, any server for iPXE's
// scripts, and PXELINUX. It serves nothing.
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/script"
)

// Format is what files are written for.
type Format string

// The formats.
const (
	Dnsmasq  Format = "dnsmasq"
	IPXE     Format = "ipxe"
	PXELinux Format = "pxelinux"
)

// Formats gives them all.
func Formats() []Format { return []Format{Dnsmasq, IPXE, PXELinux} }

// Options say what the files are to hold.
type Options struct {
	Format Format
	// URL is how nodes reach the web server that has /files, /images and /ipxe, without a slash at the end; empty is the configuration's own.
	URL string
	// Root is where the TFTP root will lie on the server; only dnsmasq.conf names it.
	Root string
}

// Tree is files by their paths. They are in an order that does not change.
type Tree struct {
	Files  []File
	Copies []Link // files of this machine to be copied
	Links  []Link // symbolic links to be made
}

// File is a text.
type File struct{ Name, Text string }

// Link is a name for what is elsewhere.
type Link struct{ Name, Target string }

// head stands at the beginning of every file.
const head = "# made by `windlass netboot export`: change netboot.yaml and make it again\n"

// Build makes the files.
func Build(c *config.Config, s *script.Set, o Options) (*Tree, error) {
	if o.URL = cmp.Or(strings.TrimRight(o.URL, "/"), ownURL(c)); o.URL == "" {
		return nil, fault.Hintf(fault.New(fault.Invalid, "nodes need the URL of the web server that has the files"), "give --url http://SERVER[:PORT][/PATH]")
	}
	if !config.PlainURL(o.URL) {
		return nil, fault.New(fault.Invalid, "--url: %q is no plain http://HOST[:PORT][/PATH]", o.URL)
	}
	switch o.Format {
	case Dnsmasq:
		return dnsmasq(c, s, o)
	case IPXE:
		t := &Tree{}
		return t, t.scripts(c, s, o, "", o.URL+"/boot.ipxe")
	case PXELinux:
		return pxelinux(c, s, o)
	}
	return nil, fault.New(fault.Invalid, "format: %q is none of %v", o.Format, Formats())
}

// ownURL is that of our web server, as far as the configuration says.
func ownURL(c *config.Config) string {
	if c.HTTP.URL != "" {
		return c.HTTP.URL
	}
	for _, i := range c.Interfaces {
		if i.Address.IsValid() && c.HTTP.Port() != "" {
			return "http://" + net.JoinHostPort(i.Address.String(), c.HTTP.Port())
		}
	}
	return ""
}

// The script that finds a node's own, by what iPXE knows of the interface that it booted from.
const chooser = `#!ipxe
` + head + `chain ipxe/01-${netX/mac:hexhyp}.ipxe || chain ipxe/default.ipxe || goto unlisted
:unlisted
echo windlass: ${netX/mac} is not a listed node
sleep 30
exit 1
`

// scripts adds the scripts for iPXE below a directory. self is the URL of the first of them.
func (t *Tree) scripts(c *config.Config, s *script.Set, o Options, below, self string) error {
	t.add(below+"boot.ipxe", chooser)
	for _, n := range ordered(c) {
		_, text, err := s.Written(n.MAC, o.URL, self)
		if err != nil {
			return err
		}
		t.add(below+"ipxe/01-"+hyphens(n.MAC)+".ipxe", text)
	}
	_, text, err := s.Unlisted(o.URL, self, "${netX/mac:hexhyp}", "${netX/mac}")
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	t.add(below+"ipxe/default.ipxe", text)
	return nil
}

func (t *Tree) add(name, text string) { t.Files = append(t.Files, File{name, text}) }

// ordered gives the nodes by MAC.
func ordered(c *config.Config) []config.Node {
	return slices.SortedFunc(slices.Values(c.Nodes), func(a, b config.Node) int { return strings.Compare(a.MAC, b.MAC) })
}

func hyphens(mac string) string { return strings.ReplaceAll(mac, ":", "-") }

// Write puts the files below a directory, which it makes. A file that is there is replaced; others are left alone.
func (t *Tree) Write(ctx context.Context, dir string) error {
	for _, f := range t.Files {
		if err := write(ctx, filepath.Join(dir, f.Name), []byte(f.Text)); err != nil {
			return err
		}
	}
	for _, l := range t.Copies {
		data, err := os.ReadFile(l.Target)
		if err != nil {
			return fmt.Errorf("copy a boot program: %w", err)
		}
		if err := write(ctx, filepath.Join(dir, l.Name), data); err != nil {
			return err
		}
	}
	for _, l := range t.Links {
		if err := link(filepath.Join(dir, l.Name), l.Target); err != nil {
			return err
		}
	}
	return nil
}

func write(ctx context.Context, path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(ctx, path, data, 0o644)
}

func link(path, target string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if was, err := os.Readlink(path); err == nil && was == target {
		return nil
	} else if err == nil {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	err := os.Symlink(target, path)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Exists, "%s is in the way of a link to %s", path, target)
	}
	return err
}

// Print writes all texts one after the other, each under its name.
func (t *Tree) Print(w io.Writer) error {
	for _, f := range t.Files {
		if _, err := fmt.Fprintf(w, "==> %s <==\n%s\n", f.Name, f.Text); err != nil {
			return err
		}
	}
	for _, l := range slices.Concat(t.Copies, t.Links) {
		if _, err := fmt.Fprintf(w, "==> %s <== %s\n", l.Name, l.Target); err != nil {
			return err
		}
	}
	return nil
}
