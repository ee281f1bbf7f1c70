//go:build ceph

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// barInterval is how often the bar is drawn.
const barInterval = 100 * time.Millisecond

// progress shows how far a publishing is: on a terminal by a bar that is written over, else by a line for each tenth.
type progress struct {
	w     io.Writer
	live  bool
	stage string
	began time.Time
	drawn time.Time // last, of the bar
	tenth int64     // last, of the lines
}

// progress gives nil when nobody wants to see it; all of its methods take that.
func (a *app) progress() *progress {
	if a.quiet {
		return nil
	}
	f, ok := a.err.(*os.File)
	return &progress{w: a.err, live: ok && term.IsTerminal(int(f.Fd()))}
}

func (p *progress) show(s rbd.Progress) {
	if p == nil {
		return
	}
	if s.Stage != p.stage {
		p.end()
		p.stage, p.began, p.drawn, p.tenth = s.Stage, time.Now(), time.Time{}, 0
	}
	if p.live {
		p.bar(s)
		return
	}
	if tenth := 10 * s.Done / s.Total; tenth > p.tenth {
		p.tenth = tenth
		fmt.Fprintf(p.w, "windlass-ceph: %s\n", p.text(s))
	}
}

const barWidth = 24

func (p *progress) bar(s rbd.Progress) {
	now := time.Now()
	if now.Sub(p.drawn) < barInterval && s.Done < s.Total {
		return
	}
	p.drawn = now
	full := int(barWidth * s.Done / s.Total)
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), p.text(s))
}

func (p *progress) text(s rbd.Progress) string {
	text := fmt.Sprintf("%s  %d %%, %s of %s", s.Stage, 100*s.Done/s.Total, size(s.Done), size(s.Total))
	took := time.Since(p.began)
	if took < time.Second || s.Done == 0 || s.Done == s.Total {
		return text
	}
	speed := float64(s.Done) / took.Seconds()
	left := time.Duration(float64(s.Total-s.Done) / speed * float64(time.Second)).Round(time.Second)
	return text + fmt.Sprintf(", %s/s, %v left", size(int64(speed)), left)
}

// end takes the bar away.
func (p *progress) end() {
	if p != nil && p.live && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func size(n int64) string { return units.BytesSize(float64(n)) }
