package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal gives the file behind a stream when it is a terminal, else nil.
func terminal(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// palette colours words, or leaves them when the reader is no terminal or wants no colour (https://no-color.org).
type palette struct{ on bool }

func (a *app) palette(w io.Writer) palette {
	return palette{terminal(w) != nil && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"}
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

func (p palette) paint(colour, text string) string {
	if !p.on || colour == "" || text == "" {
		return text
	}
	return colour + text + reset
}

// stateColour gives the colour of a state of any kind.
func stateColour(state string) string {
	switch state {
	case "running", "ready":
		return green
	case "planned", "doing", "undoing", "stopping", "paused":
		return yellow
	case "dead", "lost":
		return red
	}
	return ""
}

// unicode says whether the locale can show box drawing.
func (a *app) unicode() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := a.env(name); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}
