package nfs

import (
	"net/netip"
	"regexp"
	"strings"
	"unicode"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// request is a spec that was checked.
type request struct {
	host     string     // a name; "" with addr
	addr     netip.Addr // invalid with host
	path     string
	versions []string // to try, in turn
	options
}

func parse(spec *models.Mount) (request, error) {
	if spec == nil || spec.Nfs == nil {
		return request{}, fault.New(fault.Invalid, "nfs is missing: a mount of kind nfs says in it what to mount from where")
	}
	part := spec.Nfs
	var r request
	var err error
	if r.host, r.addr, err = parseHost(part.Host); err != nil {
		return request{}, err
	}
	if r.path, err = parsePath(part.Path); err != nil {
		return request{}, err
	}
	if n := len(r.source()); n > fsmount.MaxValue {
		return request{}, fault.Hintf(fault.New(fault.Invalid, "nfs.host and nfs.path have %d bytes together; the kernel takes %d", n, fsmount.MaxValue),
			"mount a directory above it, and use a bind to go down")
	}
	if r.versions, err = parseVersion(part.Version); err != nil {
		return request{}, err
	}
	if r.options, err = parseOptions(part.Options, r.versions[0]); err != nil {
		return request{}, err
	}
	ro := part.Ro != nil && *part.Ro
	if ro && r.readWrite {
		return request{}, fault.New(fault.Invalid, "nfs.ro says read-only, and nfs.options rw")
	}
	r.readOnly = r.readOnly || ro
	return r, r.checkFamily()
}

// source is what mountinfo and df show, as mount.nfs writes it.
func (r request) source() string {
	host := r.host
	if r.addr.IsValid() {
		host = r.addr.String()
	}
	if r.addr.Is6() {
		host = "[" + host + "]"
	}
	return host + ":" + r.path
}

func parseHost(field *string) (string, netip.Addr, error) {
	if field == nil || *field == "" {
		return "", netip.Addr{}, fault.New(fault.Invalid, "nfs.host is missing: give the name or the address of the server")
	}
	host := *field
	bare, opened := strings.CutPrefix(host, "[")
	bare, closed := strings.CutSuffix(bare, "]")
	if addr, err := netip.ParseAddr(bare); err == nil && opened == closed && (addr.Is6() || !opened) {
		return "", addr.Unmap(), checkAddress(addr)
	}
	labels := regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z_]([A-Za-z0-9_-]*[A-Za-z0-9_])?\.?$`)
	if len(host) > 253 || !labels.MatchString(host) {
		return "", netip.Addr{}, fault.Hintf(fault.New(fault.Invalid, "nfs.host %q is neither a name nor an address", host),
			"such as storage.example.org, 192.0.2.1 or 2001:db8::1; a port is an option: port=N")
	}
	return host, netip.Addr{}, nil
}

func checkAddress(addr netip.Addr) error {
	zone := addr.Zone()
	switch {
	case addr.IsUnspecified() || addr.IsMulticast():
		return fault.New(fault.Invalid, "nfs.host %s is the address of no server", addr)
	case zone != "" && !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`).MatchString(zone):
		return fault.New(fault.Invalid, "nfs.host: %q is the name of no interface", zone)
	case addr.Is6() && addr.IsLinkLocalUnicast() && zone == "":
		return fault.Hintf(fault.New(fault.Invalid, "nfs.host %s is an address of every link", addr), "say of which, such as %s%%eth0", addr)
	}
	return nil
}

func parsePath(field *string) (string, error) {
	switch {
	case field == nil || *field == "":
		return "", fault.New(fault.Invalid, "nfs.path is missing: give the path of the export")
	case !strings.HasPrefix(*field, "/"):
		return "", fault.New(fault.Invalid, "nfs.path %q does not begin with /", *field)
	case strings.ContainsFunc(*field, unicode.IsControl):
		return "", fault.New(fault.Invalid, "nfs.path %q has a character that is none of a name", *field)
	}
	for name := range strings.SplitSeq(*field, "/") {
		if name == ".." {
			return "", fault.New(fault.Invalid, "nfs.path %q has .. in it: give the path as it is", *field)
		}
	}
	return *field, nil
}

// parseVersion gives the versions to try, the best first.
func parseVersion(field *string) ([]string, error) {
	version := "4"
	if field != nil && *field != "" {
		version = *field
	}
	switch version {
	case "4":
		return []string{"4.2", "4.1", "4.0"}, nil
	case "3", "4.0", "4.1", "4.2":
		return []string{version}, nil
	}
	return nil, fault.Hintf(fault.New(fault.Invalid, "nfs.version is %q", version), "it can be 3, 4.0, 4.1 or 4.2, or 4 for the best that both have")
}
