package kmod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// modprobeUsage is what modprobe says of itself.
const modprobeUsage = `usage: modprobe [-q] [-v] [-n] MODULE [PARAM=VALUE]…
       modprobe [-q] [-v] [-n] -a MODULE…

Load a module by its name or alias, with what it needs. It knows what the initramfs was built with. The kernel calls it.

  -a  load several
  -n  load nothing, only show what would be (-D, --show-depends: the same)
  -q  say nothing of what there is not
  -v  say what is loaded
`

// call is a command line of modprobe.
type call struct {
	quiet, verbose, all, dry, help bool
	names, params                  []string
}

// Modprobe is the program modprobe, args without its name; it answers the exit code. root is where lib/modules lies, "/" on a node.
func Modprobe(ctx context.Context, args []string, root string, out, errs io.Writer) int {
	c, err := parseCall(args)
	if err != nil {
		fmt.Fprintf(errs, "modprobe: %v\n%s", err, modprobeUsage)
		return 2
	}
	if c.help {
		fmt.Fprint(out, modprobeUsage)
		return 0
	}
	line, _ := os.ReadFile("/proc/cmdline") // without it there are no options
	l, err := OpenLoader(root, CommandLine(string(line)))
	if err != nil {
		return c.say(errs, err)
	}
	return c.run(ctx, l, out, errs)
}

func parseCall(args []string) (c call, err error) {
	flags := map[string]*bool{"q": &c.quiet, "quiet": &c.quiet, "v": &c.verbose, "verbose": &c.verbose, "a": &c.all, "all": &c.all, "n": &c.dry,
		"dry-run": &c.dry, "show": &c.dry, "D": &c.dry, "show-depends": &c.dry, "h": &c.help, "help": &c.help, "b": new(bool),
		"use-blacklist": new(bool), "s": new(bool), "syslog": new(bool)}
	for i, a := range args {
		if a == "--" {
			c.names = append(c.names, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			c.names = append(c.names, a)
			continue
		}
		words := []string{strings.TrimPrefix(a, "--")}
		if !strings.HasPrefix(a, "--") {
			words = strings.Split(a[1:], "")
		}
		for _, w := range words {
			if flags[w] == nil {
				return c, fmt.Errorf("there is no option %s here", a)
			}
			*flags[w] = true
		}
	}
	if len(c.names) == 0 && !c.help {
		return c, errors.New("say which module")
	}
	if !c.all && len(c.names) > 1 {
		c.names, c.params = c.names[:1], c.names[1:]
	}
	return c, nil
}

func (c call) run(ctx context.Context, l *Loader, out, errs io.Writer) (code int) {
	if c.verbose {
		l.Told = func(done Loaded) {
			if done.Err == nil {
				fmt.Fprintf(out, "loaded %s in %v\n", done.Name, done.Took)
			}
		}
	}
	for _, name := range c.names {
		if c.dry {
			files, err := l.Plan(name)
			for _, f := range files {
				fmt.Fprintf(out, "insmod %s\n", f)
			}
			code = max(code, c.say(errs, err))
			continue
		}
		code = max(code, c.say(errs, l.Load(ctx, name, c.params...)))
	}
	return code
}

// say prints an error and gives the exit code. Told to be quiet, as by the kernel, whose log is the only place where anybody would see it,
// it says nothing of what there is not.
func (c call) say(errs io.Writer, err error) int {
	if err == nil {
		return 0
	}
	text := "modprobe: " + err.Error()
	if hint := fault.HintOf(err); hint != "" {
		text += ": " + hint
	}
	if !c.quiet {
		fmt.Fprintln(errs, text)
	} else if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unsupported) {
		toKernelLog(text)
	}
	return 1
}

func toKernelLog(text string) {
	log, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer log.Close()
	fmt.Fprintf(log, "<4>windlass %s", text)
}
