package rbd

import (
	"math/bits"
	"net/netip"
	"regexp"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func checkOptions(o *models.RbdOptions) error {
	on := map[string]bool{}
	for _, f := range flags(o) {
		if on[f.name] = f.on; f.on && on[f.except] {
			return fault.New(fault.Invalid, "rbd.options.%s and rbd.options.%s exclude each other", f.except, f.name)
		}
	}
	for _, f := range figures(o) {
		if f.value < 0 || f.value > f.max {
			return fault.New(fault.Invalid, "rbd.options.%s %d is not between 0 and %d", f.name, f.value, f.max)
		}
	}
	if n := uint64(o.AllocSize); n != 0 && (n < 512 || bits.OnesCount64(n) != 1) {
		return fault.New(fault.Invalid, "rbd.options.alloc_size %d is no power of 2 of 512 or more", n)
	}
	for _, t := range texts(o) {
		if err := checkText(t); err != nil {
			return err
		}
	}
	if err := checkOption("rbd.options.name", o.Name); err != nil {
		return err
	}
	if user(o) == "" {
		return fault.New(fault.Invalid, "rbd.options.name %q names nobody", o.Name)
	}
	return source(o).Validate("rbd.options")
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func checkText(t text) error {
	if t.value == "" {
		return nil
	}
	field := "rbd.options." + t.name
	if err := checkOption(field, t.value); err != nil {
		return err
	}
	if all := values(t.name); all != nil {
		for _, v := range all {
			if t.value == v {
				return nil
			}
		}
		return fault.New(fault.Invalid, "%s %q is none of %s", field, t.value, strings.Join(all, ", "))
	}
	switch t.name {
	case "fsid":
		if !uuid.MatchString(t.value) {
			return fault.Hintf(fault.New(fault.Invalid, "%s %q is no UUID", field, t.value), "`ceph fsid` prints it")
		}
	case "ip":
		return checkIP(field, t.value)
	case "namespace":
		return checkWord(field, t.value, "/@")
	case "crush_location":
		return checkLocation(field, t.value)
	}
	return nil
}

// checkIP: the kernel wants an address, with a port or without.
func checkIP(field, s string) error {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		var both netip.AddrPort
		both, err = netip.ParseAddrPort(s)
		addr = both.Addr()
	}
	if err != nil || addr.Zone() != "" {
		return fault.New(fault.Invalid, "%s %q is no address", field, s)
	}
	return nil
}

func checkLocation(field, s string) error {
	seen := map[string]bool{}
	for _, part := range strings.Split(s, "|") {
		kind, name, ok := strings.Cut(part, ":")
		if !ok || kind == "" || name == "" || seen[part] {
			err := fault.New(fault.Invalid, "%s %q is not written TYPE:NAME|TYPE:NAME, each once", field, s)
			return fault.Hintf(err, "such as rack:r1|host:n7")
		}
		seen[part] = true
	}
	return nil
}
