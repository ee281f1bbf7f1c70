package kmod

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// linux is the running kernel.
type linux struct{}

// patience is how often a module is tried whose loading by somebody else failed meanwhile.
const patience = 3

func (linux) live(name string) bool {
	state, err := os.ReadFile("/sys/module/" + name + "/initstate") // not there for what is built in
	return err == nil && strings.TrimSpace(string(state)) == "live"
}

// load waits for who loads the same module at this time. EEXIST is no error: the module is there. EBUSY is what Linux since 6.4 answers when
// the other one failed: then it is our turn.
func (linux) load(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for range patience {
		err = unix.FinitModule(int(f.Fd()), params, 0)
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return err
}
