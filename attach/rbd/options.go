package rbd

import (
	"math"
	"math/bits"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// defaultUser is whose key is meant when the request does not say.
const defaultUser = "admin"

// flags are the options without a value, as the kernel calls them (net/ceph/ceph_common.c, drivers/block/rbd.c). Two of a pair exclude
// each other.
type flag struct {
	name   string // in the request
	word   string // for the kernel
	on     bool
	except string // the name of its opposite
	usual  bool   // it says what is so anyway
}

func flags(o *models.RbdOptions) []flag {
	return []flag{
		{"share", "share", o.Share, "noshare", true},
		{"noshare", "noshare", o.Noshare, "share", false},
		{"crc", "crc", o.Crc, "nocrc", true},
		{"nocrc", "nocrc", o.Nocrc, "crc", false},
		// The kernel has only ever obeyed the names with an x, and now ignores those too: cephx_sign_messages counts.
		{"ceph_requires_signatures", "cephx_require_signatures", o.CephRequiresSignatures, "noceph_requires_signatures", true},
		{"noceph_requires_signatures", "nocephx_require_signatures", o.NocephRequiresSignatures, "ceph_requires_signatures", true},
		{"tcp_nodelay", "tcp_nodelay", o.TCPNodelay, "notcp_nodelay", true},
		{"notcp_nodelay", "notcp_nodelay", o.NotcpNodelay, "tcp_nodelay", false},
		{"cephx_sign_messages", "cephx_sign_messages", o.CephxSignMessages, "nocephx_sign_messages", true},
		{"nocephx_sign_messages", "nocephx_sign_messages", o.NocephxSignMessages, "cephx_sign_messages", false},
		{"abort_on_full", "abort_on_full", o.AbortOnFull, "", false},
		{"lock_on_read", "lock_on_read", o.LockOnRead, "", false},
		{"exclusive", "exclusive", o.Exclusive, "", false},
		{"notrim", "notrim", o.Notrim, "", false},
		{"rw", "rw", o.Rw, "ro", true}, // ro is decided elsewhere, and added there
		{"ro", "", o.Ro, "rw", true},
	}
}

// figure is an option with a number. 0 leaves it to the kernel, or to the daemon.
type figure struct {
	name  string
	value int64
	max   int64
}

// maxSeconds is what the kernel takes: it counts in milliseconds (INT_MAX / 1000).
const maxSeconds = math.MaxInt32 / 1000

func figures(o *models.RbdOptions) []figure {
	return []figure{
		{"mount_timeout", o.MountTimeout, maxSeconds},
		{"osd_request_timeout", value(o.OsdRequestTimeout), maxSeconds},
		{"osdkeepalive", o.Osdkeepalive, maxSeconds},
		{"osd_idle_ttl", o.OsdIdleTTL, maxSeconds},
		{"lock_timeout", o.LockTimeout, maxSeconds},
		{"queue_depth", o.QueueDepth, 10240}, // BLK_MQ_MAX_DEPTH
		{"alloc_size", o.AllocSize, 1 << 30},
	}
}

// text is an option with a text.
type text struct {
	name  string
	word  string // for the kernel
	value string
	usual string // what is so anyway
}

func texts(o *models.RbdOptions) []text {
	return []text{
		{"fsid", "fsid", strings.ToLower(o.Fsid), ""},
		{"ip", "ip", o.IP, ""},
		{"namespace", "_pool_ns", o.Namespace, ""},
		{"ms_mode", "ms_mode", o.MsMode, "legacy"},
		{"read_from_replica", "read_from_replica", o.ReadFromReplica, "no"},
		{"crush_location", "crush_location", o.CrushLocation, ""},
		{"compression_hint", "compression_hint", o.CompressionHint, "none"},
	}
}

// values are those that an option may have, where they are listed.
func values(name string) []string {
	switch name {
	case "ms_mode":
		return []string{"legacy", "crc", "secure", "prefer-crc", "prefer-secure"}
	case "read_from_replica":
		return []string{"no", "balance", "localize"}
	case "compression_hint":
		return []string{"none", "compressible", "incompressible"}
	}
	return nil
}

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

// words gives the options for the kernel, without name and secret, which are the caller's. With usual false those are left out that say
// what is so anyway.
func words(o *models.RbdOptions, usual bool) []string {
	var all []string
	for _, f := range flags(o) {
		if f.on && f.word != "" && (usual || !f.usual) {
			all = append(all, f.word)
		}
	}
	for _, f := range figures(o) {
		if f.value != 0 || f.name == "osd_request_timeout" { // 0 is never, and stands for itself there
			all = append(all, f.name+"="+strconv.FormatInt(f.value, 10))
		}
	}
	for _, t := range texts(o) {
		if t.value != "" && (usual || t.value != t.usual) {
			all = append(all, t.word+"="+t.value)
		}
	}
	return all
}
