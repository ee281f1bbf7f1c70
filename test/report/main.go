// Command report reads the output of `go test -json`, shows one line a package and what failed in full, and counts.
//
//	go test -json ./... | report -skips test/skips.allowed -totals FILE [-name SECTION]
//
// A skipped test that the list does not allow counts as a failure of the run: what a machine can run must be run. The totals are added
// to the file as one line, `passed failed skipped`, for the line at the end of a run of several sections. Exit status 1: something failed.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	ok, err := run(os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout io.Writer) (ok bool, err error) {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	skips := flags.String("skips", "", "file with the tests that may be skipped")
	totals := flags.String("totals", "", "file to add the totals to")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	allowed, err := readAllowed(*skips)
	if err != nil {
		return false, err
	}
	r := newReport(stdout, allowed)
	if err := r.read(stdin); err != nil {
		return false, err
	}
	ok = r.finish()
	if *totals == "" {
		return ok, nil
	}
	f, err := os.OpenFile(*totals, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, r.passed, r.failed, r.skipped)
	return ok, err
}
