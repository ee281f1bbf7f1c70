package rbd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/attach"
)

// mark is how a device of ours is known again: the end of the line with which it was mapped, which the kernel ignores and keeps
// (config_info in sysfs). It is written `key:KEY windlass:INSTANCE:ID`.
type mark struct {
	key      string    // what is shared: the directory of its holders
	instance string    // of the daemon
	id       attach.ID // of the attachment that had it mapped, which may have gone before the others
}

func (m mark) String() string { return fmt.Sprintf("key:%s windlass:%s:%d", m.key, m.instance, m.id) }

// parseMark reads the mark at the end of a line; false when the line is not of this package. The rest of the line holds a secret, and
// nothing of it is given.
func parseMark(line string) (mark, bool) {
	words := strings.Fields(line)
	if len(words) != 7 {
		return mark{}, false
	}
	key, ok := strings.CutPrefix(words[5], "key:")
	if !ok || !isShareKey(key) {
		return mark{}, false
	}
	parts := strings.Split(words[6], ":")
	if len(parts) != 3 || parts[0] != "windlass" || parts[1] == "" {
		return mark{}, false
	}
	id, ok := parseID(parts[2])
	return mark{key: key, instance: parts[1], id: id}, ok
}

func isShareKey(s string) bool {
	return len(s) == keyLength && strings.Trim(s, "0123456789abcdef") == ""
}

func parseID(s string) (attach.ID, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != s {
		return 0, false
	}
	return attach.ID(n), true
}
