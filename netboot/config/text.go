package config

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

func itoa(n int) string { return strconv.Itoa(n) }

// number is an IPv4 address as a number.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// names lists the groups for a message.
func names(groups map[string]Group) string {
	if len(groups) == 0 {
		return "none"
	}
	return strings.Join(sorted(groups), ", ")
}

// label reports whether s is one label of a host name.
func label(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r > 'z' || !isLetter(r) && !isDigit(r))
	})
}

// domain reports whether s is labels with dots between them.
func domain(s string) bool {
	if len(s) > 200 {
		return false
	}
	for l := range strings.SplitSeq(s, ".") {
		if !label(l) {
			return false
		}
	}
	return true
}

// identifier reports whether a template can name s as a field.
func identifier(s string) bool {
	return s != "" && !isDigit(rune(s[0])) && !strings.ContainsFunc(s, func(r rune) bool { return r != '_' && !isLetter(r) && !isDigit(r) })
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isDigit(r rune) bool  { return r >= '0' && r <= '9' }

// printable reports whether s is one line without control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar })
}

// plainWord reports whether s is printable ASCII without blanks and quotes.
func plainWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\'' || r == '\\' })
}
