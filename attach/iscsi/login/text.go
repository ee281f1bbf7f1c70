package login

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	maxKey   = 63      // bytes (RFC 7143, 6.1)
	maxText  = 1 << 20 // bytes of one answer, over all its PDUs; thousands of targets fit
	maxPairs = 20000
)

// Pair is a key and its value.
type Pair struct{ Key, Value string }

// Text is what parties tell each other in key=value form, in order.
type Text []Pair

// ParseText reads pairs that each end with a zero byte. Keys may come more than once, as in answers to SendTargets.
func ParseText(data []byte) (Text, error) {
	if len(data) > maxText {
		return nil, fmt.Errorf("a text of %d bytes is longer than anybody needs", len(data))
	}
	var t Text
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if len(entry) == 0 {
			continue // behind the last one; some targets send more zeros
		}
		key, value, ok := strings.Cut(string(entry), "=")
		if !ok || key == "" || len(key) > maxKey {
			return nil, fmt.Errorf("%.80q is no key=value", entry)
		}
		if len(t) == maxPairs {
			return nil, fmt.Errorf("a text of more than %d keys", maxPairs)
		}
		t = append(t, Pair{key, value})
	}
	return t, nil
}

// Bytes is the text as it is sent.
func (t Text) Bytes() []byte {
	var b []byte
	for _, p := range t {
		b = append(append(append(append(b, p.Key...), '='), p.Value...), 0)
	}
	return b
}

// Get gives the value of the first pair with this key.
func (t Text) Get(key string) (string, bool) {
	for _, p := range t {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// once fails when a key comes twice, which nobody may do in a login.
func (t Text) once() error {
	seen := make(map[string]bool, len(t))
	for _, p := range t {
		if seen[p.Key] {
			return fmt.Errorf("the target sends %s twice", p.Key)
		}
		seen[p.Key] = true
	}
	return nil
}
