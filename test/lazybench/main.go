// Command lazybench measures chunkfs side by side with the file systems that others boot from: how soon a program runs when nothing of the
// image is here, how fast an image is that is wholly here, and what the web server had to send. test/bench-chunkfs.sh starts everything
// that it needs; run that.
//
// What is compared is run in turns within each round, so that a noisy machine disturbs all alike. Every subject starts a round with an
// empty cache and an empty page cache, and fetches from the same web server, in this program, which counts what it sends.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// setting is what test/bench-chunkfs.sh has prepared.
type setting struct {
	tree   string // the root file system, a directory
	work   string // a directory of our own
	peers  string // where the others' programs are
	bin    string // where ours are
	rounds int
	only   string
	skip   string
	out    io.Writer

	workloads []workload
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lazybench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("lazybench", flag.ContinueOnError)
	s := setting{out: stdout}
	flags.StringVar(&s.tree, "tree", "", "root file system with python3 and gcc")
	flags.StringVar(&s.work, "work", "", "an empty directory on a disk")
	flags.StringVar(&s.peers, "peers", "", "directory of the others' programs")
	flags.StringVar(&s.bin, "bin", "bin", "directory of windlass and windlass-shim")
	flags.IntVar(&s.rounds, "rounds", 3, "rounds of each measurement")
	flags.StringVar(&s.only, "only", "", "measure only the workloads whose name has this in it")
	flags.StringVar(&s.skip, "skip", "", "leave out the subjects of these names, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.tree == "" || s.work == "" {
		return fmt.Errorf("-tree and -work are needed; test/bench-chunkfs.sh gives them")
	}
	var err error
	if s.workloads, err = workloads(s.tree); err != nil {
		return err
	}
	web, err := serveStore(s.work)
	if err != nil {
		return err
	}
	defer web.Close()
	ready, err := prepare(ctx, s, web)
	if err != nil {
		return err
	}
	if err := complete(ctx, s, ready); err != nil {
		return err
	}
	for _, link := range []link{{name: "loopback, 0 ms"}, {name: "20 ms", rtt: 20e6}, {name: "5 ms, 200 Mbit/s", rtt: 5e6, mbit: 200}} {
		if err := lazy(ctx, s, ready, web, link); err != nil {
			return err
		}
	}
	return nil
}

// prepare publishes the image for every subject; one that cannot is named and left out.
func prepare(ctx context.Context, s setting, web *web) ([]subject, error) {
	var ready []subject
	for _, sub := range subjects(s, web) {
		if skipped(s.skip, sub.name()) {
			continue
		}
		took, err := timed(func() error { return sub.prepare(ctx) })
		if err != nil {
			fmt.Fprintf(os.Stderr, "lazybench: %s is left out: %v\n", sub.name(), err)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		fmt.Fprintf(os.Stderr, "lazybench: %s is ready after %v\n", sub.name(), took.Round(10*time.Millisecond))
		ready = append(ready, sub)
	}
	return ready, nil
}

func skipped(list, name string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if s == name {
			return true
		}
	}
	return false
}
