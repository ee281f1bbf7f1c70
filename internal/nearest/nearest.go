// Package nearest finds the names that somebody who mistyped one may have meant. It owns nothing.
package nearest

import "strings"

// To gives those of names that are a few letters away from word, or begin with it, or that it is the end of: the nearest, at most
// three. Case and the difference of - and _ do not count.
func To(word string, names []string) []string {
	word = fold(word)
	limit := 1 + len(word)/4
	var found [4][]string
	for _, name := range names {
		f := fold(name)
		d := distance(word, f)
		if len(word) > 2 && (strings.HasPrefix(f, word) || strings.HasSuffix(f, "_"+word) || strings.HasPrefix(word, f+"_")) {
			d = min(d, 2)
		}
		if d <= limit && d < len(found) {
			found[d] = append(found[d], name)
		}
	}
	for _, near := range found {
		if len(near) > 0 {
			return near[:min(len(near), 3)]
		}
	}
	return nil
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// distance counts the letters to insert, delete or replace, and neighbours to swap, to make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
