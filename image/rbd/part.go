//go:build ceph

package rbd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// bare is the name as Ceph's own tools take it.
func (n Name) bare() string { return strings.TrimPrefix(n.String(), scheme) }

// partName is what an image is called that is being written: when that began, in seconds since 1970 as 8 hex digits, and 8 more by chance.
func partName(image string, now time.Time) string {
	return fmt.Sprintf("%s%s%08x%s", image, partMark, uint32(now.Unix()), random())
}

// young is how long an attempt is left alone that nobody has open: it may be about to open what it has made. It also allows for clocks that
// do not agree.
const young = 2 * time.Minute

// isYoung says whether an attempt to publish whose image has this name has begun just now, by the clock of whoever did.
func isYoung(part string, now time.Time) bool {
	rest := part[strings.LastIndex(part, partMark)+len(partMark):]
	began, err := strconv.ParseUint(rest[:min(8, len(rest))], 16, 32)
	return err == nil && len(rest) == 16 && now.Sub(time.Unix(int64(began), 0)).Abs() < young
}

func random() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}
