package rbd

import (
	"math"
	"strconv"
	"strings"

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
