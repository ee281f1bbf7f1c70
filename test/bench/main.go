// Command bench measures a running daemon side by side with others that do the same job, and prints a table of medians and ratios.
// test/bench.sh starts everything that it needs; run that.
//
// What is compared is run in turns, one after the other within each round, so that a noisy machine disturbs all alike. Clearing up
// between rounds is not counted, except where the other's command does it too.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// setting is what test/bench.sh has prepared.
type setting struct {
	ours       *api
	forerunner *api // nil: it could not be built or started
	image      string
	rootfs     string
	cli        []string // windlass and its flags
	work       string   // a directory of our own
	state      string   // one for what crun keeps
	rounds     int
	clients    int
	out        io.Writer
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	socket := flags.String("socket", "", "unix socket of the daemon")
	forerunner := flags.String("forerunner", "", "address of the forerunner's server, HOST:PORT")
	program := flags.String("windlass", "bin/windlass", "the program, for its client verbs")
	s := setting{out: stdout}
	flags.StringVar(&s.image, "image", "", "squashfs image of a root file system")
	flags.StringVar(&s.rootfs, "rootfs", "", "the same as a directory")
	flags.StringVar(&s.work, "work", "", "an empty directory")
	flags.StringVar(&s.state, "crun-state", "/run/crun", "where crun keeps what it knows of its containers")
	flags.IntVar(&s.rounds, "rounds", 31, "rounds of each comparison")
	flags.IntVar(&s.clients, "clients", 1000, "clients of the load")
	only := flags.String("only", "", "run only the parts whose name has this in it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *socket == "" || s.image == "" || s.rootfs == "" || s.work == "" {
		return fmt.Errorf("-socket, -image, -rootfs and -work are needed; test/bench.sh gives them")
	}
	path, err := filepath.Abs(*program)
	if err != nil {
		return err
	}
	s.cli = []string{path, "--socket", *socket}
	s.ours = newAPI("unix", *socket)
	if *forerunner != "" {
		s.forerunner = newAPI("tcp", *forerunner)
	}
	return s.all(*only)
}

// all runs the parts and prints a row as soon as it is known.
func (s setting) all(only string) error {
	parts := []struct {
		name string
		fn   func(setting) ([]row, error)
	}{{"chain", chain}, {"start", start}, {"exec", exec}, {"load", load}}
	fmt.Fprintln(s.out, "| what | windlass | against | it | ratio | to reach | n |\n|---|---|---|---|---|---|---|")
	var failed []string
	for _, p := range parts {
		if !strings.Contains(p.name, only) {
			continue
		}
		rows, err := p.fn(s)
		for _, r := range rows {
			fmt.Fprintln(s.out, r)
		}
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", p.name, err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not measured: %s", strings.Join(failed, "; "))
	}
	return nil
}

// crun gives its arguments those that come first.
func (s setting) crun(args ...string) []string {
	return append([]string{"--root", s.state, "--cgroup-manager=cgroupfs"}, args...)
}
