package act

import (
	"strings"

	"golang.org/x/sys/unix"
)

// create makes a detached mount. It is undone when the last descriptor of it is closed.
func (o Order) create(fds []int) (answer Answer, mnt int) {
	for {
		answer, mnt = o.tryCreate(fds)
		// A context that was interrupted by a signal is of no more use: begin anew.
		if answer.Errno != int(unix.EINTR) {
			return answer, mnt
		}
	}
}

func (o Order) tryCreate(fds []int) (answer Answer, mnt int) {
	fc, err := unix.Fsopen(o.FSType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return failed(CallOpen, err), -1
	}
	defer unix.Close(fc)
	refused := func(call string, err error) (Answer, int) {
		a := failed(call, err)
		a.Messages = messages(fc)
		return a, -1
	}
	for i, opt := range o.Options {
		if fds, err = set(fc, opt, fds); err != nil {
			a, _ := refused(CallOption, err)
			a.Option = i
			return a, -1
		}
	}
	if err := unix.FsconfigCreate(fc); err != nil {
		return refused(CallCreate, err)
	}
	mnt, err = unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, int(o.Attrs))
	if err != nil {
		return refused(CallMount, err)
	}
	return Answer{}, mnt
}

// set gives the descriptors that are left for the options that follow.
func set(fc int, o Option, fds []int) ([]int, error) {
	switch {
	case o.File && len(fds) == 0:
		return nil, unix.EBADF
	case o.File:
		return fds[1:], unix.FsconfigSetFd(fc, o.Key, fds[0])
	case o.Flag:
		return fds, unix.FsconfigSetFlag(fc, o.Key)
	}
	return fds, unix.FsconfigSetString(fc, o.Key, o.Value)
}

// messages reads what the kernel has written into the context; each begins with a letter for its kind and a blank.
func messages(fc int) []string {
	var all []string
	buf := make([]byte, 4096)
	for range 16 {
		n, err := unix.Read(fc, buf)
		if err != nil || n == 0 {
			break
		}
		text := strings.TrimSpace(string(buf[:n]))
		if len(text) > 2 && text[1] == ' ' {
			text = text[2:]
		}
		all = append(all, text)
	}
	return all
}
