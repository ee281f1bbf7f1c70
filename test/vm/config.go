package vm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// module is the import path that everything of ours begins with.
const module = "github.com/windlass-hpc/windlass"

// Config says what a guest is to be.
type Config struct {
	Cases   []Case            // what runs in it, in this order
	Tags    string            // build tags of the tests
	Modules []string          // modules of the kernel that the tests need, beside what a guest boots with
	Files   map[string]string // files to add to its root file system: path there, path here
	Tools   []string          // programs of this machine to add, with their libraries
	Env     map[string]string // what the tests find in their environment, beside what every guest gives them
	Memory  int               // MiB; 1024 when it is 0
	Net     *Net              // nil: no network but its own loopback
	Shell   bool              // a shell for whoever connects to port 23, with Net; for looking around
}

// Net is a network device of the guest, eth0.
type Net struct {
	Tap       string   // the interface here
	Addresses []string // of the guest, with their prefix length, such as 10.99.0.2/24
}

// Case is a package whose tests run in the guest.
type Case struct {
	Name    string        // of the subtest and, for Config, the program
	Pkg     string        // relative to the module
	Tools   []string      // programs of this machine that they need beside Debian's smallest system
	Asked   bool          // run when it is asked for by name only
	Skip    string        // tests that run only then
	Run     string        // only these
	Timeout time.Duration // of all tests together; 4 minutes when it is 0
	// NoDaemon: they do not run windlass itself, so it need not be built, nor be fit to be built while others work on it.
	NoDaemon bool
	// Failpoint: they also run a windlass that is built with failpoints; see test/daemon.
	Failpoint bool
}

func (c Case) String() string { return fmt.Sprintf("%s (%s)", c.Name, c.Pkg) }

// args are the arguments of the test program, for a shell.
func (c Case) args() string {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 4 * time.Minute
	}
	args := "-test.v=test2json -test.timeout=" + timeout.String()
	if c.Skip != "" {
		args += " -test.skip=" + quote(c.Skip)
	}
	if c.Run != "" {
		args += " -test.run=" + quote(c.Run)
	}
	return args
}

// script is what the guest's run script reads first.
func (c Config) script() []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(c.Env[name]))
	}
	if c.Net != nil {
		fmt.Fprintf(&b, "addresses=%s\n", quote(strings.Join(c.Net.Addresses, " ")))
	}
	if c.Shell {
		b.WriteString("shell=yes\n")
	}
	return []byte(b.String())
}

// quote makes a word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Cache is where kernel and Debian are kept.
func Cache() string {
	if dir := os.Getenv("WINDLASS_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/windlass-test"
}
