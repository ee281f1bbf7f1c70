package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/boot/root"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// Program says which of the programs that are part of init a name stands for: init, its process for the network, poweroff, reboot, halt; "" is none. Nothing but the name
// counts: words of the kernel's command line may come as arguments.
func Program(arg0 string) string {
	switch base := filepath.Base(arg0); base {
	case "init", "poweroff", "reboot", "halt", networkProgram:
		return base
	}
	return ""
}

// Main runs the program of the name and gives its exit code. As init it does not come back.
func Main(program, version string, errs io.Writer) int {
	switch program {
	case "init":
	case networkProgram:
		if err := networkChild(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(errs, "%s: %v\n", program, err)
			return 1
		}
		return 0
	default:
		if err := ask(program, os.Args[1:]); err != nil {
			fmt.Fprintf(errs, "%s: %s\n", program, journal.Explain(err))
			return 1
		}
		return 0
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(errs, "init: windlass is init only as the first process of a node, which the kernel starts; it touches nothing here")
		return 2
	}
	return run(version, errs)
}

// hopped marks in the environment that the root was moved, or that it could not be.
const hopped = "WINDLASS_INIT_ROOT"

// run is init.
func run(version string, errs io.Writer) int {
	unix.Umask(0o022)
	stray := strays()
	rooted := os.Getenv(hopped)
	if rooted == "" {
		rooted = hop()
	}
	_, mountErr := root.Mount("")
	line, _ := os.ReadFile("/proc/cmdline") // without it there are no options
	reviveAfterPanic(string(line), "/proc/sys/kernel/panic")
	spare(spared)
	console := journal.NewConsole(openConsole(errs))
	j := journal.New(console)
	i := newInit(version, strings.TrimSpace(string(line)), given(), j, console)
	s := j.Begin(bootstage.Init)
	if rooted != moved {
		s.Say("the root could not be moved: %s: containers may fail to start", rooted)
	}
	if mountErr != nil {
		s.Failed(mountErr)
	}
	go i.tellStrays(stray)
	i.began(s)
	i.live(context.Background())
	select {} // live ends the node; were this process to end, the kernel would panic
}

// moved is the value of hopped when all is well.
const moved = "moved"

// hop moves to a root that containers can leave. It only comes back, and says why, when it did not.
func hop() string {
	initial, err := root.Initial()
	if err != nil {
		return err.Error()
	}
	if !initial {
		return moved // it is such a root
	}
	self, err := os.Readlink("/init") // windlass itself, as the builder has it
	if err != nil {
		self = "init"
	}
	if !filepath.IsAbs(self) {
		self = "/" + self
	}
	return root.Hop(self, os.Args, append(os.Environ(), hopped+"="+moved)).Error()
}

// given is what the kernel gave to its first process: words of its command line that it did not know.
func given() []string { return append(os.Args[1:len(os.Args):len(os.Args)], os.Environ()...) }

// openConsole opens the console anew: the one that the kernel gave is of an initramfs that may have had none.
func openConsole(errs io.Writer) io.Writer {
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return errs
	}
	return f
}
