package rbd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// goingName is the file in a key's directory that is locked while its device is taken away by force: whoever orders that may not have the
// other lock, when somebody in this process has it who waits for the device. No ID is called so.
const goingName = "going"

// tryGoing notes that the device of a key goes, as long as the file is open, here or in a helper. It gives no file and no error when that is
// noted already.
//
// The lock is one of the open file (F_OFD_SETLK) like that of flock, but others can look at it without taking it.
func tryGoing(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the device's holders: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, goingName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("note that the device goes: %w", err)
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, nil
	}
	return nil, fmt.Errorf("note that the device goes: %w", err)
}

// isGoing says whether the device of a key is being taken away by force.
func isGoing(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, goingName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("see whether the device goes: %w", err)
	}
	defer f.Close()
	found := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &found); err != nil {
		return false, fmt.Errorf("see whether the device goes: %w", err)
	}
	return found.Type != unix.F_UNLCK, nil
}
