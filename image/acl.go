package image

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// aclText writes an access list as GNU tar and star read it, with numbers for names: "user::rw-,user:1000:r--,…". It says false of a value
// that is none (linux/posix_acl_xattr.h).
func aclText(value []byte) (string, bool) {
	if len(value) < 4 || len(value)%8 != 4 || binary.LittleEndian.Uint32(value) != 2 {
		return "", false
	}
	var list []string
	for b := value[4:]; len(b) > 0; b = b[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		word, named := "", false
		switch tag {
		case 0x01:
			word = "user"
		case 0x02:
			word, named = "user", true
		case 0x04:
			word = "group"
		case 0x08:
			word, named = "group", true
		case 0x10:
			word = "mask"
		case 0x20:
			word = "other"
		default:
			return "", false
		}
		who := ""
		if named {
			who = fmt.Sprint(id)
		}
		bits := []byte("---")
		for i, c := range []byte("rwx") {
			if perm&(4>>i) != 0 {
				bits[i] = c
			}
		}
		list = append(list, word+":"+who+":"+string(bits))
	}
	return strings.Join(list, ","), true
}
