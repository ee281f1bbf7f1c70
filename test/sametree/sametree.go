// Package sametree holds two directory trees against each other: names, types, modes, owners, times, device numbers, extended attributes,
// which names are links of each other, and content. A hole and zeros are the same.
//
// It is for tests of what makes or shows trees: it reads them as a user would, through the kernel, and reports every difference, not
// the first one alone. It changes nothing.
package sametree

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// maxLines is how many differences a report shows.
const maxLines = 60

// Options say what may differ. The zero value is for a tree that is the same in all.
type Options struct {
	Seconds bool // times are compared by their seconds alone
	// Xattr says which extended attributes are compared; nil: all.
	Xattr func(name string) bool
	// Path says which paths are compared, relative ones without a leading slash; nil: all. A directory that is not compared is not gone
	// into.
	Path     func(path string) bool
	Metadata bool // alone is compared: content is not read
	// Parallel is how many files are read at once; 0: twice as many as there are CPUs.
	Parallel int
}

// Compare fails the test with a list of what differs between the tree at got and the one at want, which is right.
func Compare(t testing.TB, want, got string) {
	t.Helper()
	CompareWith(t, want, got, Options{})
}

// CompareWith is Compare with options.
func CompareWith(t testing.TB, want, got string, o Options) {
	t.Helper()
	r := Diff(t.Context(), want, got, o)
	if len(r.Lines) > 0 {
		t.Errorf("%s", r)
	}
	if r.Paths == 0 {
		t.Errorf("nothing was compared between %s and %s", want, got)
	}
}

// Report is what a comparison has found.
type Report struct {
	Want, Got string
	Lines     []string // a difference each, which begins with its path; sorted
	Paths     int      // that were compared
	Files     int      // whose content was compared, links once
	Bytes     int64    // of content, without holes
}

func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s differs from %s in %d ways (%d paths and %d bytes of %d files were compared):", r.Got, r.Want, len(r.Lines), r.Paths, r.Bytes, r.Files)
	for i, line := range r.Lines {
		if i == maxLines {
			fmt.Fprintf(&b, "\n  and %d more", len(r.Lines)-i)
			break
		}
		b.WriteString("\n  " + line)
	}
	return b.String()
}

// Diff compares two trees. It ends early when ctx does, and says so in a line.
func Diff(ctx context.Context, want, got string, o Options) Report {
	d := &differ{o: o, ctx: ctx, report: Report{Want: want, Got: got}, jobs: make(chan job, 64)}
	var wg sync.WaitGroup
	if o.Parallel == 0 {
		o.Parallel = 2 * runtime.NumCPU()
	}
	for range o.Parallel {
		wg.Go(func() {
			for j := range d.jobs {
				d.content(j)
			}
		})
	}
	d.walk()
	close(d.jobs)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		d.say(".", "the comparison was ended: %v", err)
	}
	slices.Sort(d.report.Lines)
	return d.report
}

// differ is one comparison.
type differ struct {
	o    Options
	ctx  context.Context //nolint:containedctx // it is one operation
	jobs chan job

	mu     sync.Mutex // of report, which the readers of content write to too
	report Report
}

// job is a pair of files whose content is compared.
type job struct {
	path      string
	want, got string
	size      int64
}

// say adds a difference.
func (d *differ) say(path, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Lines = append(d.report.Lines, fmt.Sprintf("%q: ", path)+fmt.Sprintf(format, args...))
}
