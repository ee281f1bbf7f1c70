package kmod

import "strings"

// match says whether name is one of those that the pattern stands for: * is anything, ? one character, [a-z] one of these and [!a-z] one of
// the others. Both are compared as Plain gives them, outside of brackets, as modprobe does.
func match(pattern, name string) bool {
	p, n := 0, 0
	star, from := -1, 0 // the last *, and what it is taken to stand for ends here
	for n < len(name) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, n
				p++
				continue
			}
			if next, ok := one(pattern, p, name[n]); ok {
				p, n = next, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, n = star+1, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// one says whether c is what stands at p of the pattern, and where that ends.
func one(pattern string, p int, c byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		if end := strings.IndexByte(pattern[p+1:], ']'); end > 0 {
			return p + end + 2, class(pattern[p+1:p+1+end], c)
		}
	}
	return p + 1, fold(pattern[p]) == fold(c)
}

func fold(c byte) byte {
	if c == '-' {
		return '_'
	}
	return c
}

// class says whether c is in the brackets whose content is set.
func class(set string, c byte) bool {
	not := set[0] == '!' || set[0] == '^'
	if not {
		set = set[1:]
	}
	for i := 0; i < len(set); i++ {
		low, high := set[i], set[i]
		if i+2 < len(set) && set[i+1] == '-' {
			high = set[i+2]
			i += 2
		}
		if low <= c && c <= high {
			return !not
		}
	}
	return not
}
