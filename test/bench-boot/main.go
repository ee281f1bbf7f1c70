// Command bench-boot measures the boot of a stateless node with windlass side by side with what others boot theirs with: the initramfs of
// dracut that fetches an image by HTTP, and Debian's with live-boot. test/bench-boot.sh prepares all that it needs; run that.
//
// It owns the emulated machines, one at a time and in turns, and the web server that they boot from, which counts what it sends. That
// a node is ready is what its own systemd tells: a unit of the image posts to the web server when all others have come up.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// setting is what test/bench-boot.sh has prepared.
type setting struct {
	builders string // a Debian with dracut and initramfs-tools, /proc, /sys and /dev mounted
	kernel   string // directory with vmlinux, vmlinuz and lib/modules
	image    string // squashfs of the node's Debian
	tree     string // what that was made from
	work     string // a directory of our own
	bin      string // where our programs are
	cache    string // where the locks of the emulated machines are
	consoles string // where the consoles are kept; empty: nowhere
	rounds   int
	memory   int // MiB
	only     *regexp.Regexp
	least    bool
	nobuild  bool
	out      io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench-boot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	s, err := settings(args, stdout)
	if err != nil {
		return err
	}
	if err := build(ctx, s); err != nil {
		return err
	}
	w, err := serve(filepath.Join(s.work, "www"))
	if err != nil {
		return err
	}
	defer w.Close()
	if err := publish(ctx, s, w); err != nil {
		return err
	}
	var list []subject
	for _, sub := range subjects(s, w) {
		if s.only.MatchString(sub.name) {
			list = append(list, sub)
		}
	}
	if err := boots(ctx, s, w, list); err != nil || !s.least {
		return err
	}
	return leasts(ctx, s, w, list)
}

func settings(args []string, stdout io.Writer) (setting, error) {
	flags := flag.NewFlagSet("bench-boot", flag.ContinueOnError)
	s := setting{out: stdout}
	flags.StringVar(&s.builders, "builders", "", "tree of a Debian with dracut and initramfs-tools")
	flags.StringVar(&s.kernel, "kernel", "", "directory of the node's kernel and modules")
	flags.StringVar(&s.image, "image", "", "squashfs of the node's system")
	flags.StringVar(&s.tree, "tree", "", "the tree that it was made from")
	flags.StringVar(&s.work, "work", "", "an empty directory on a disk")
	flags.StringVar(&s.bin, "bin", "bin", "directory of windlass and windlass-shim")
	flags.StringVar(&s.cache, "cache", "/var/cache/windlass-test", "directory with the locks of emulated machines")
	flags.StringVar(&s.consoles, "consoles", "", "keep what the nodes' consoles show in this directory")
	flags.IntVar(&s.rounds, "rounds", 3, "rounds of each measurement")
	flags.IntVar(&s.memory, "memory", 1024, "memory of a node in MiB")
	only := flags.String("only", "", "boot only those whose name matches this regular expression")
	flags.BoolVar(&s.nobuild, "nobuild", false, "do not measure how long building takes: build each once, and those that are there not at all")
	flags.BoolVar(&s.least, "least", false, "find out with how little memory each boots, too: many boots")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return s, err
	}
	if s.builders == "" || s.kernel == "" || s.image == "" || s.tree == "" || s.work == "" {
		return s, fmt.Errorf("-builders, -kernel, -image, -tree and -work are needed; test/bench-boot.sh gives them")
	}
	return s, nil
}
