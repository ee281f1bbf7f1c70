package source

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The tags of ACL entries as the kernel has them (linux/posix_acl.h), which also are their order.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclVersion = 2
	aclNobody  = 0xffffffff // of an entry that is for no one by number
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// parseACL makes the value of an extended attribute of an ACL as text: lines or comma separated "user:1000:rwx", as GNU tar --acls and star
// write it. It gives nil for one that says no more than the mode does.
func parseACL(text string) ([]byte, error) {
	var list []aclEntry
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == ',' || r == 0 }) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := parseACLEntry(strings.Split(line, ":"))
		if err != nil {
			return nil, fault.Hintf(fault.New(fault.KindOf(err), "its ACL has %q: %w", clip(line), err), "write the archive with tar --xattrs --xattrs-include='*' in place of --acls: that keeps numbers")
		}
		list = append(list, e)
	}
	if !slices.ContainsFunc(list, func(e aclEntry) bool { return e.tag&(aclUser|aclGroup|aclMask) != 0 }) {
		return nil, nil
	}
	slices.SortStableFunc(list, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	value := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range list {
		value = binary.LittleEndian.AppendUint16(value, e.tag)
		value = binary.LittleEndian.AppendUint16(value, e.perm)
		value = binary.LittleEndian.AppendUint32(value, e.id)
	}
	return value, nil
}

func parseACLEntry(fields []string) (aclEntry, error) {
	if len(fields) < 3 {
		return aclEntry{}, damaged("that is no entry of one")
	}
	e := aclEntry{id: aclNobody}
	named := fields[1] != ""
	switch fields[0] {
	case "user", "u":
		e.tag = aclUserObj
		if named {
			e.tag = aclUser
		}
	case "group", "g":
		e.tag = aclGroupObj
		if named {
			e.tag = aclGroup
		}
	case "mask", "m":
		e.tag = aclMask
	case "other", "o":
		e.tag = aclOther
	default:
		return e, damaged("that is no entry of one")
	}
	for _, r := range fields[2] {
		bit := strings.IndexRune("xwr", r)
		switch {
		case bit >= 0:
			e.perm |= 1 << bit
		case r != '-':
			return e, damaged("its permissions are none")
		}
	}
	if e.tag&(aclUser|aclGroup) == 0 {
		return e, nil
	}
	var err error
	e.id, err = aclID(fields)
	return e, err
}

// aclID gives the number of a user or group: star adds it to the name. What a name means on another machine is not known here, but for
// root.
func aclID(fields []string) (uint32, error) {
	who := fields[1]
	if len(fields) > 3 {
		who = fields[3]
	}
	if who == "root" {
		return 0, nil
	}
	id, err := strconv.ParseUint(who, 10, 32)
	if err != nil || id == aclNobody {
		return 0, fault.New(fault.Unsupported, "it names %q, not a number", clip(who))
	}
	return uint32(id), nil
}
