package cmdline

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/nearest"
)

// prefix is what all words for windlass begin with.
const prefix = "windlass."

// What becomes of the node once its image is there.
const (
	HandoffContainer  = "container"   // it runs as a container, beside the daemon
	HandoffSwitchRoot = "switch_root" // it takes the place of windlass
	HandoffKexec      = "kexec"       // its own kernel is started
)

// When a shell is opened on the console.
const (
	RescueFailed = "failed" // when something fails that trying again does not mend
	RescueNow    = "now"    // then, too, and before anything is done with the network
	RescueOff    = "off"    // never
)

// Options is what the command line says. URLs are as they were written; they may hold passwords.
type Options struct {
	Config         string // the daemon's configuration
	ConfigProof    Proof
	Container      string // the definition of the container
	ContainerProof Proof
	Report         string // where reports are posted
	API            []string
	Insecure       bool // an API without certificates may be reached from other machines
	Log            string
	Rescue         string
	Handoff        string
	Hostname       string
	NTP            []string
	Links          []Link // of the network; none: every device is tried
	NoNetwork      bool
	BootMAC        net.HardwareAddr // of the device that the node booted from, if the boot loader says so
	Pass           []string         // words for the container
	Warnings       []string         // what was not understood
}

// Parse reads a command line. given is what the kernel gave to its first process, arguments and environment.
func Parse(text string, given []string) Options {
	o := Options{Rescue: RescueFailed, Handoff: HandoffContainer}
	words := Words(text)
	var kernel []Link
	var off bool // ip=off is there, which counts when no other ip= names a device
	for _, w := range words {
		key, value, valued := strings.Cut(w, "=")
		name, ours := strings.CutPrefix(key, prefix)
		switch {
		case ours:
			o.set(name, value, valued)
		case key == "ip" && valued:
			kernel, off = o.kernelIP(kernel, off, value)
		case key == "BOOTIF":
			o.BootMAC = bootMAC(value)
		}
	}
	if len(o.Links) == 0 && !o.NoNetwork {
		o.Links, o.NoNetwork = kernel, off && len(kernel) == 0
	}
	o.Pass = pass(words, given)
	return o
}

// setters lists what windlass understands, by name without the prefix.
func (o *Options) setters() map[string]func(string) error {
	checked := func(to *string, ok func(string) bool, what string) func(string) error {
		return func(v string) error {
			if !ok(v) {
				return fmt.Errorf("%q is no %s", v, what)
			}
			*to = v
			return nil
		}
	}
	all := map[string]func(string) error{
		"config":       o.setURL("config", &o.Config),
		"container":    o.setURL("container", &o.Container),
		"report":       o.setReport,
		"log":          oneOf(&o.Log, "error", "warn", "info", "debug", "trace"),
		"handoff":      oneOf(&o.Handoff, HandoffContainer, HandoffSwitchRoot, HandoffKexec),
		"hostname":     checked(&o.Hostname, IsHostname, "name of a host"),
		"rescue":       o.setRescue,
		"api":          o.setAPI,
		"api.insecure": func(v string) error { o.Insecure = v != "no" && v != "0"; return nil },
		"ntp":          func(v string) error { o.NTP = append(o.NTP, split(v, ",")...); return nil },
		"net":          o.setNet,
	}
	maps.Copy(all, o.proofs("config", &o.ConfigProof))
	maps.Copy(all, o.proofs("container", &o.ContainerProof))
	return all
}

// bare lists those that need no value.
func bare(name string) bool { return name == "rescue" || name == "api.insecure" }

func (o *Options) set(name, value string, valued bool) {
	all := o.setters()
	name = strings.ReplaceAll(name, "-", "_")
	set, proofs := all[name], o.proofsOf(name)
	switch {
	case set == nil:
		text := unknown(name, slices.Sorted(maps.Keys(all)))
		for _, p := range proofs {
			p.Wrong = text
		}
		o.warn(text)
	case proofs != nil: // of the one file that has this name
		if err := set(value); err != nil {
			proofs[0].Wrong = prefix + name + ": " + err.Error()
			o.warn(proofs[0].Wrong)
		}
	case (!valued || value == "") && !bare(name):
		o.warn(prefix + name + " has no value, and is ignored")
	default:
		if err := set(value); err != nil {
			o.warn(prefix + name + ": " + err.Error() + ": ignored")
		}
	}
}

func unknown(name string, names []string) string {
	text := "nothing is called " + prefix + name
	if near := nearest.To(name, names); len(near) > 0 {
		return text + ": did you mean " + prefix + strings.Join(near, " or "+prefix) + "?"
	}
	return text + "; there are " + strings.Join(names, ", ")
}

// warn remembers a warning, not too long for a console.
func (o *Options) warn(text string) {
	const most, longest = 20, 400
	if len(o.Warnings) < most {
		o.Warnings = append(o.Warnings, strings.ToValidUTF8(text[:min(len(text), longest)], "?"))
	}
}

func (o *Options) setRescue(v string) error {
	switch v {
	case "", "now", "1", "yes":
		o.Rescue = RescueNow
		return nil
	case "0", "no":
		o.Rescue = RescueOff
		return nil
	}
	return oneOf(&o.Rescue, RescueFailed, RescueNow, RescueOff)(v)
}

func oneOf(to *string, names ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(names, v) {
			*to = v
			return nil
		}
		err := fmt.Errorf("%q is none of %s", v, strings.Join(names, ", "))
		if near := nearest.To(v, names); len(near) > 0 {
			err = fmt.Errorf("%w (did you mean %s?)", err, near[0])
		}
		return err
	}
}

var (
	digestForm   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	hostnameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)
)

func isDigest(v string) bool { return digestForm.MatchString(v) }

// IsHostname says whether the kernel and everybody else can take it as the name of a host.
func IsHostname(v string) bool { return hostnameForm.MatchString(v) && !strings.Contains(v, "..") }

// bootMAC reads what pxelinux and iPXE say: the kind of hardware, 01 for Ethernet, and the address, with - or : between.
func bootMAC(v string) net.HardwareAddr {
	v = strings.ReplaceAll(v, "-", ":")
	if len(v) == len("01:00:00:00:00:00:00") {
		v = v[3:]
	}
	mac, err := net.ParseMAC(v)
	if err != nil || len(mac) != 6 {
		return nil
	}
	return mac
}

func split(v, at string) (list []string) {
	for _, w := range strings.Split(v, at) {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}
