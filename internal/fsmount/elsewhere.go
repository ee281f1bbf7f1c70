package fsmount

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/kernellog"
)

// Elsewhere is Create by way of another process, in which try makes the calls. try says in e how far it came and what the kernel said; its
// error is explained as that of Create when it is a bare unix.Errno, and else given as it is. The step is the caller's.
func Elsewhere(fsType string, opts []Option, try func(e *Error) (*os.File, error)) (*os.File, error) {
	e := &Error{FSType: fsType, Source: source(opts)}
	log := openKernelLog(e.Source)
	defer log.close()
	mnt, err := try(e)
	errno, bare := err.(unix.Errno)
	if !bare {
		return mnt, err
	}
	e.Errno = errno
	for i, m := range e.Messages {
		e.Messages[i] = kernellog.Printable(m)
	}
	e.Messages = append(e.Messages, log.messages()...)
	return nil, explain(e)
}
