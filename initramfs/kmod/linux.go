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
	give, err := giver(file, params)
	if err != nil {
		return err
	}
	for range patience {
		err = give()
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return err
}

// giver gives the kernel the module in the file. One that is compressed is unpacked here: not every kernel can.
func giver(file, params string) (func() error, error) {
	if strings.HasSuffix(file, ".ko") {
		return func() error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.FinitModule(int(f.Fd()), params, 0)
		}, nil
	}
	data, err := ReadPlain(file)
	return func() error { return unix.InitModule(data, params) }, err
}
