package erofs

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// prefixes are what e_name_index stands for. The ACLs are whole names: nothing follows.
var prefixes = [...]string{1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}

// splitXattr gives the number of a name's prefix and what follows it.
func splitXattr(name string) (index byte, rest string, ok bool) {
	for i, p := range prefixes {
		if p == "" || !strings.HasPrefix(name, p) {
			continue
		}
		rest := name[len(p):]
		whole := !strings.HasSuffix(p, ".")
		return byte(i), rest, whole == (rest == "") && len(name) <= maxName && !strings.Contains(name, "\x00")
	}
	return 0, "", false
}

// XattrSupported reports whether an image can hold an extended attribute of this name: those of user, trusted and security, and the two
// POSIX ACLs. Linux's EROFS knows no other.
func XattrSupported(name string) bool {
	_, _, ok := splitXattr(name)
	return ok
}

// xattrSize is what an attribute takes where its name and value are.
func xattrSize(x Xattr) int64 {
	_, rest, _ := splitXattr(x.Name)
	return roundUp(xattrEntry+int64(len(rest)+len(x.Value)), xattrAlign)
}

func appendXattr(b []byte, x Xattr) []byte {
	index, rest, _ := splitXattr(x.Name)
	end := len(b) + int(xattrSize(x))
	b = append(b, byte(len(rest)), index)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.Value)))
	b = append(append(b, rest...), x.Value...)
	return append(b, make([]byte, end-len(b))...)
}

// sorted gives a node's attributes by name, without changing its own list.
func sorted(list []Xattr) []Xattr {
	byName := func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) }
	if slices.IsSortedFunc(list, byName) {
		return list
	}
	return slices.SortedFunc(slices.Values(list), byName)
}

// checkXattrs looks at a sorted list.
func checkXattrs(list []Xattr) error {
	total := int64(0)
	for i, x := range list {
		switch {
		case !XattrSupported(x.Name):
			return fault.New(fault.Unsupported, "EROFS has no room for an extended attribute of the name %q", x.Name)
		case len(x.Value) > 1<<16-1:
			return fault.New(fault.Unsupported, "the extended attribute %s has %d bytes, and EROFS holds 65535", x.Name, len(x.Value))
		case i > 0 && x.Name == list[i-1].Name:
			return fault.New(fault.Invalid, "the extended attribute %s is there twice", x.Name)
		}
		if total += xattrSize(x); total > maxXattrs {
			return fault.New(fault.Unsupported, "its extended attributes take more than %d bytes", maxXattrs)
		}
	}
	return nil
}

// sharedXattrs are the attributes that more than one inode has: they are written once.
type sharedXattrs struct {
	seen map[[sha256.Size]byte]int64 // attributes by name and value: once for those seen once, else the place in the area
	list []Xattr
	size int64
}

const once = -1

func xattrKey(x Xattr) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(x.Name + "\x00"))
	h.Write(x.Value)
	return [sha256.Size]byte(h.Sum(nil))
}

// count takes note of an attribute. The order of the calls decides the order of the area.
func (s *sharedXattrs) count(x Xattr) {
	key := xattrKey(x)
	switch place, ok := s.seen[key]; {
	case !ok:
		s.seen[key] = once
	case place == once:
		s.seen[key] = s.size
		s.list = append(s.list, x)
		s.size += xattrSize(x)
	}
}

// split sorts a node's attributes into the numbers of shared ones and those that stay with it.
func (s *sharedXattrs) split(list []Xattr) (shared []uint32, own []Xattr) {
	for _, x := range list {
		if place := s.seen[xattrKey(x)]; place != once && place/xattrAlign < 1<<32 && len(shared) < 255 {
			shared = append(shared, uint32(place/xattrAlign))
		} else {
			own = append(own, x)
		}
	}
	return shared, own
}

// body is what stands behind an inode for its attributes; nil when it has none.
func (s *sharedXattrs) body(list []Xattr) []byte {
	if len(list) == 0 {
		return nil
	}
	shared, own := s.split(list)
	b := make([]byte, xattrHeader)
	b[xattrSharedCount] = byte(len(shared))
	for _, id := range shared {
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	for _, x := range own {
		b = appendXattr(b, x)
	}
	return b
}
