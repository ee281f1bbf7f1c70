package login

import (
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Digest says whether PDUs carry a checksum, CRC32C.
type Digest int

// The choices.
const (
	NoDigest     Digest = iota // none
	CRC32C                     // the login fails without
	PreferCRC32C               // where the target can
)

func (d Digest) offer() string {
	switch d {
	case CRC32C:
		return "CRC32C"
	case PreferCRC32C:
		return "CRC32C,None"
	}
	return "None"
}

// Params are the parameters of a session (RFC 7143, 13). Lengths are in bytes.
type Params struct {
	Header, Data      bool // digests
	MaxRecv, MaxXmit  int  // of data in a PDU to us, from us
	FirstBurst        int
	MaxBurst          int
	InitialR2T        bool
	ImmediateData     bool
	PortalGroup       int // 0 when the target does not say
	Time2Wait, Retain int // seconds
	Alias             string
}

// What we offer, and the limits of the standard.
const (
	offerFirstBurst = 256 << 10
	offerMaxBurst   = 16<<20 - 1024
	offerTime2Wait  = 2
	minSegment      = 512
	maxSegment      = 1<<24 - 1
	maxXmit         = 1 << 20 // more in one PDU brings nothing
	defaultSegment  = 8 << 10 // where the target says nothing
	maxSeconds      = 3600
)

// offer is what is asked for in the operational stage.
func (r *run) offer() Text {
	t := Text{
		{"HeaderDigest", r.Header.offer()}, {"DataDigest", r.Data.offer()},
		{"MaxRecvDataSegmentLength", strconv.Itoa(r.MaxRecv)},
		{"DefaultTime2Wait", strconv.Itoa(offerTime2Wait)}, {"DefaultTime2Retain", "0"},
		{"ErrorRecoveryLevel", "0"},
	}
	if r.Target == "" {
		return t
	}
	return append(t,
		Pair{"MaxConnections", "1"},
		Pair{"InitialR2T", "No"}, Pair{"ImmediateData", "Yes"},
		Pair{"MaxBurstLength", strconv.Itoa(offerMaxBurst)}, Pair{"FirstBurstLength", strconv.Itoa(offerFirstBurst)},
		Pair{"MaxOutstandingR2T", "1"},
		Pair{"DataPDUInOrder", "Yes"}, Pair{"DataSequenceInOrder", "Yes"},
	)
}

// decline answers what the target proposes of its own: we know nothing beyond what was offered.
func decline(offered, answer Text) Text {
	var out Text
	for _, p := range answer {
		_, ours := offered.Get(p.Key)
		if !ours && !declaration(p.Key) {
			out = append(out, Pair{p.Key, "NotUnderstood"})
		}
	}
	return out
}

// declaration says whether a key is told and not negotiated.
func declaration(key string) bool {
	switch key {
	case "TargetAlias", "TargetAddress", "TargetPortalGroupTag", "MaxRecvDataSegmentLength":
		return true
	}
	return false
}

// settle works out what holds after our offer and the target's answers. Where the target is silent the standard's default holds.
func (r *run) settle(offered, answer Text) (Params, error) {
	if err := answer.once(); err != nil {
		return Params{}, fault.New(fault.Backend, "the target's answer to the login cannot be read: %w", err)
	}
	s := settling{answer: answer}
	p := Params{
		Header: s.digest("HeaderDigest", "header_digest", r.Header), Data: s.digest("DataDigest", "data_digest", r.Data),
		MaxRecv:    r.MaxRecv,
		MaxXmit:    min(s.number("MaxRecvDataSegmentLength", defaultSegment, minSegment, maxSegment), maxXmit),
		MaxBurst:   min(s.number("MaxBurstLength", 256<<10, minSegment, maxSegment), offerMaxBurst),
		FirstBurst: min(s.number("FirstBurstLength", 64<<10, minSegment, maxSegment), offerFirstBurst),
		// Said to be in order by us, which settles it: the result is the OR.
		InitialR2T:    s.boolean("InitialR2T", true),
		ImmediateData: s.boolean("ImmediateData", true),
		PortalGroup:   s.number("TargetPortalGroupTag", 0, 0, 1<<16-1),
		Time2Wait:     max(s.number("DefaultTime2Wait", 2, 0, maxSeconds), offerTime2Wait),
		Retain:        min(s.number("DefaultTime2Retain", 20, 0, maxSeconds), 0),
	}
	p.FirstBurst = min(p.FirstBurst, p.MaxBurst) // the kernel insists, and so does the standard
	if p.Alias, _ = answer.Get("TargetAlias"); len(p.Alias) > 255 {
		p.Alias = p.Alias[:255]
	}
	return p, s.err
}

// settling reads answers and keeps the first error.
type settling struct {
	answer Text
	err    error
}

func (s *settling) get(key string) (string, bool) {
	v, ok := s.answer.Get(key)
	switch v {
	case "Irrelevant", "NotUnderstood":
		return "", false
	case "Reject":
		s.fail(fault.New(fault.Backend, "the target rejects our %s", key))
		return "", false
	}
	return v, ok
}

func (s *settling) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *settling) number(key string, unset, low, high int) int {
	v, ok := s.get(key)
	if !ok {
		return unset
	}
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil || n < uint64(low) || n > uint64(high) {
		s.fail(fault.New(fault.Backend, "the target's %s %.40q is not between %d and %d", key, v, low, high))
		return unset
	}
	return int(n)
}

func (s *settling) boolean(key string, unset bool) bool {
	v, ok := s.get(key)
	if !ok {
		return unset
	}
	if v != "Yes" && v != "No" {
		s.fail(fault.New(fault.Backend, "the target's %s %.40q is neither Yes nor No", key, v))
	}
	return v == "Yes"
}

// digest reads what the target chose. One that cannot have the digest we insist on says so in several ways.
func (s *settling) digest(key, field string, want Digest) bool {
	v, _ := s.answer.Get(key)
	v = strings.TrimSpace(v)
	switch {
	case v == "CRC32C" && want != NoDigest:
		return true
	case want == CRC32C:
		err := fault.New(fault.Backend, "the target does not agree to %s=CRC32C, it says %.40q", key, v)
		s.fail(fault.Hintf(err, "allow CRC32C at the target, or ask for %s prefer-crc32c or none", field))
	case v != "" && v != "None" && v != "NotUnderstood" && v != "Irrelevant" && !(want == PreferCRC32C && v == "Reject"):
		err := fault.New(fault.Backend, "the target insists on %s=%.40s", key, v)
		s.fail(fault.Hintf(err, "ask for %s crc32c", field))
	}
	return false
}
