package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
)

// event is what test2json writes; see `go doc cmd/test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// test is one test, or with an empty name the package itself.
type test struct {
	output   strings.Builder
	result   string // pass, fail, skip, or empty while it runs
	children bool
	failing  bool // one of its children failed
}

type report struct {
	out                     io.Writer
	allowed                 allowed
	packages                map[string]map[string]*test
	builds                  map[string]*strings.Builder
	passed, failed, skipped int
	failedPackages          []string
	forbidden               []string
	spoken                  time.Time // when something was shown last
	done                    map[string]int
}

// silence is how long nothing is shown before a long package says how far it is.
const silence = 20 * time.Second

func newReport(out io.Writer, a allowed) *report {
	return &report{out: out, allowed: a, packages: map[string]map[string]*test{}, builds: map[string]*strings.Builder{},
		spoken: time.Now(), done: map[string]int{}}
}

// read takes events until the end. A line that is no event, such as a message of the go command, is shown as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprint(r.out, line)
			}
		}
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// figureMark begins what a test has measured; it is shown of a test that passes too.
const figureMark = "figure: "

func (r *report) take(e event) {
	if e.Action == "build-output" {
		if r.builds[e.ImportPath] == nil {
			r.builds[e.ImportPath] = &strings.Builder{}
		}
		r.builds[e.ImportPath].WriteString(e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	t := r.test(e.Package, e.Test)
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
		if _, figure, ok := strings.Cut(e.Output, figureMark); ok {
			r.say("    %s %s: %s", "figure", e.Test, figure)
		}
	case "pass", "fail", "skip":
		t.result = e.Action
		r.done[e.Package]++
		if e.Test != "" && time.Since(r.spoken) > silence {
			r.say("    ...  %4d done, %s %s\n", r.done[e.Package], short(e.Package), e.Test)
		}
		if e.Test == "" {
			r.closePackage(e)
		}
	}
}

func (r *report) test(pkg, name string) *test {
	if r.packages[pkg] == nil {
		r.packages[pkg] = map[string]*test{}
	}
	t := r.packages[pkg][name]
	if t == nil {
		t = &test{}
		r.packages[pkg][name] = t
	}
	return t
}

// closePackage counts the package's tests and shows it. A test with subtests counts only when it failed by itself.
func (r *report) closePackage(e event) {
	tests := r.packages[e.Package]
	names := make([]string, 0, len(tests))
	for name := range tests {
		names = append(names, name)
	}
	sort.Sort(sort.Reverse(sort.StringSlice(names))) // children before their parents
	for _, name := range names {
		if p := parent(tests, name); p != nil {
			p.children = true
		}
	}
	var failed []string
	count := 0
	for _, name := range names {
		if name == "" {
			continue
		}
		t := tests[name]
		if t.result == "" || t.result == "fail" { // no result: it ran when the process ended
			if p := parent(tests, name); p != nil {
				p.failing = true
			}
			if !t.children || !t.failing {
				failed = append(failed, name)
			}
			continue
		}
		if !t.children {
			count++
			r.count(e.Package, name, t)
		}
	}
	if e.Action == "fail" && len(failed) == 0 {
		failed = append(failed, "") // it did not build, or fell over outside of a test
	}
	r.failed += len(failed)
	if count+len(failed) == 0 {
		return // no tests in it
	}
	r.say("    %-4s %4d tests %6.1fs  %s\n", e.Action, count+len(failed), e.Elapsed, short(e.Package))
	if len(failed) > 0 || e.Action == "fail" {
		r.failedPackages = append(r.failedPackages, e.Package)
		r.showFailures(e, failed)
	}
}

// parent finds the test that a subtest belongs to. The name of a subtest may have slashes of its own, so not every prefix is a test.
func parent(tests map[string]*test, name string) *test {
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if t := tests[name[:i]]; t != nil {
			return t
		}
	}
	return nil
}

func (r *report) count(pkg, name string, t *test) {
	if t.result == "pass" {
		r.passed++
		return
	}
	r.skipped++
	if reason, ok := r.allowed.reason(short(pkg), name); ok {
		fmt.Fprintf(r.out, "    skip %s %s: %s\n", short(pkg), name, reason)
		return
	}
	r.forbidden = append(r.forbidden, short(pkg)+" "+name+"\n"+indent(t.output.String()))
}

func (r *report) showFailures(e event, failed []string) {
	tests := r.packages[e.Package]
	sort.Strings(failed)
	for _, name := range failed {
		if name != "" {
			fmt.Fprintf(r.out, "FAIL %s %s\n%s", short(e.Package), name, indent(tests[name].output.String()))
			continue
		}
		fmt.Fprintf(r.out, "FAIL %s\n%s", short(e.Package), indent(tests[""].output.String()))
		if b := r.builds[e.FailedBuild]; b != nil {
			fmt.Fprint(r.out, indent(b.String()))
		}
	}
}

// finish says what was skipped though it may not be, and whether all is well.
func (r *report) finish() bool {
	for pkg, tests := range r.packages {
		if t := tests[""]; t == nil || t.result == "" {
			r.failed++
			r.failedPackages = append(r.failedPackages, pkg)
			fmt.Fprintf(r.out, "FAIL %s: the output ended in the middle of it\n", short(pkg))
		}
	}
	if len(r.forbidden) > 0 {
		fmt.Fprintf(r.out, "SKIPPED, but nothing says that it may be (test/skips.allowed):\n%s", indent(strings.Join(r.forbidden, "")))
	}
	if len(r.packages) == 0 {
		fmt.Fprintln(r.out, "FAIL no package was tested")
		r.failed++
		return false
	}
	return r.failed == 0 && len(r.failedPackages) == 0 && len(r.forbidden) == 0
}

func (r *report) say(format string, args ...any) {
	fmt.Fprintf(r.out, format, args...)
	r.spoken = time.Now()
}

// short is the package's path within the module.
func short(pkg string) string {
	if rest, ok := strings.CutPrefix(pkg, "github.com/windlass-hpc/windlass/"); ok {
		return rest
	}
	return pkg
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ") + "\n"
}
