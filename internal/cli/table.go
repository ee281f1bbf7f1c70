package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table is rows of cells under a head. Colour comes after the widths are known.
type table struct {
	head []string
	rows [][]string
	// paint colours the padded text of a cell; nil leaves it.
	paint func(column int, cell, padded string) string
}

func (t *table) add(cells ...string) {
	for i, c := range cells {
		if cells[i] = printable(c); c == "" {
			cells[i] = "-"
		}
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(row []string, paint func(int, string, string) string) {
		for i, cell := range row {
			padded := cell
			if i < len(row)-1 {
				padded += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			if paint != nil {
				padded = paint(i, cell, padded)
			}
			b.WriteString(padded)
		}
		b.WriteByte('\n')
	}
	line(t.head, nil)
	for _, row := range t.rows {
		line(row, t.paint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable makes a text harmless for a terminal: an image, a command line or a server may have put control characters into it. Line
// ends are kept.
func printable(s string) string {
	clean := func(r rune) bool { return r == '\n' || unicode.IsPrint(r) && r != utf8.RuneError }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case clean(r):
			b.WriteRune(r)
		case r == '\t':
			b.WriteByte(' ')
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune('�')
		}
	}
	return b.String()
}

// short cuts a text to one line of at most n characters.
func short(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
