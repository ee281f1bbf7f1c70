package login

import (
	"fmt"
	"regexp"
	"strings"
)

// maxName is how many bytes the name of an initiator or target may have (RFC 7143, 4.2.7.1).
const maxName = 223

var (
	iqnRule = regexp.MustCompile(`^iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9][a-z0-9.-]*(:.+)?$`)
	euiRule = regexp.MustCompile(`^eui\.[0-9A-Fa-f]{16}$`)
	naaRule = regexp.MustCompile(`^naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})$`)
)

// CheckName says what is wrong with the name of an initiator or target (RFC 3720, 3.2.6; RFC 3722; RFC 3980). Letters beyond ASCII are
// taken as they are, and the underscore, which the standard forbids, is in use.
func CheckName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%.40q… has %d bytes, %d are the most that a name may have", name, len(name), maxName)
	}
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune("!\"#$%&'()*+,/;<=>?@[\\]^`{|}~", r) {
			return fmt.Errorf("%q holds %q: letters, digits, '-', '.' and ':' make a name", name, r)
		}
	}
	switch {
	case strings.HasPrefix(name, "iqn."):
		if !iqnRule.MatchString(strings.ToLower(name)) {
			return fmt.Errorf("%q is no IQN: iqn., a year and month, a domain in reverse, and what follows a colon, as in iqn.2026-01.org.example:node1", name)
		}
	case strings.HasPrefix(name, "eui."):
		if !euiRule.MatchString(name) {
			return fmt.Errorf("%q is no EUI: eui. and 16 hexadecimal digits", name)
		}
	case strings.HasPrefix(name, "naa."):
		if !naaRule.MatchString(name) {
			return fmt.Errorf("%q is no NAA name: naa. and 16 or 32 hexadecimal digits", name)
		}
	default:
		return fmt.Errorf("%q begins neither with iqn. nor with eui. or naa. as a name does", name)
	}
	return nil
}
