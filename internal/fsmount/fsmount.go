// Package fsmount makes, places and takes away mounts with the kernel's mount API by descriptors (Linux 5.2; Linux 5.12 for SetAttr).
//
// A mount is made detached first: nobody sees it, and closing its descriptor undoes it, also when the daemon is killed. Only Move
// puts it into the tree. What the kernel says of a refused option or image is read from the context and told to the caller.
//
// The package owns no mount. It never unmounts lazily, and it does not decide which options a caller may give.
package fsmount

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/kernellog"
	"github.com/windlass-hpc/windlass/internal/step"
)

// MaxValue is how many bytes the value of an Option may have; the kernel takes no more.
const MaxValue = 255

// Option is one option of a file system, as fsconfig(2) takes it. Source is one too: {Key: "source", Value: "/dev/loop3"}.
type Option struct {
	Key   string
	Value string
	Flag  bool     // it has no value
	File  *os.File // the value is this open file; few options take one, and only in newer kernels
}

// Create makes a file system instance, or takes the one that the kernel has of the same source, and gives a detached mount of it.
// attrs are MOUNT_ATTR_* bits. The stage is `FSTYPE.create`.
//
// An error wraps an *Error. Its kind: Unsupported, the kernel has no such file system; Invalid, an option is refused; Corrupt, the
// source holds no such file system or a damaged one; Busy; NotFound, there is no such source.
func Create(ctx context.Context, fsType string, opts []Option, attrs uint64) (*os.File, error) {
	var mnt *os.File
	err := step.Do(ctx, fsType+".create", func(ctx context.Context) error {
		var err error
		mnt, err = createIn(ctx, fsType, opts, attrs)
		return err
	})
	if err != nil && mnt != nil {
		mnt.Close()
		mnt = nil
	}
	return mnt, err
}

func create(fsType string, opts []Option, attrs uint64) (*os.File, error) {
	e := &Error{FSType: fsType, Source: source(opts)}
	log := openKernelLog(e.Source)
	defer log.close()
	for {
		mnt, err := tryCreate(e, opts, attrs)
		// A context that was interrupted by a signal is of no more use: begin anew.
		if errors.Is(err, unix.EINTR) {
			e.Op, e.Option, e.Messages = "", "", nil
			continue
		}
		if err != nil {
			e.Errno, _ = err.(unix.Errno)
			e.Messages = append(e.Messages, log.messages()...)
			return nil, explain(e)
		}
		return mnt, nil
	}
}

// tryCreate says in e how far it came. Its error is the bare errno.
func tryCreate(e *Error, opts []Option, attrs uint64) (*os.File, error) {
	e.Op = OpOpen
	fc, err := unix.Fsopen(e.FSType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fc)
	for _, o := range opts {
		e.Op, e.Option = OpOption, o.String()
		if err := set(fc, o); err != nil {
			e.Messages = contextMessages(fc)
			return nil, err
		}
	}
	e.Op, e.Option = OpCreate, ""
	if err := unix.FsconfigCreate(fc); err != nil {
		e.Messages = contextMessages(fc)
		return nil, err
	}
	e.Op = OpMount
	fd, err := unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		e.Messages = contextMessages(fc)
		return nil, err
	}
	return os.NewFile(uintptr(fd), e.FSType+" mount"), nil
}

func set(fc int, o Option) error {
	switch {
	case o.File != nil:
		return unix.FsconfigSetFd(fc, o.Key, int(o.File.Fd()))
	case o.Flag:
		return unix.FsconfigSetFlag(fc, o.Key)
	default:
		return unix.FsconfigSetString(fc, o.Key, o.Value)
	}
}

// String is the option as mount(8) writes it.
func (o Option) String() string {
	if o.Flag {
		return o.Key
	}
	if o.File != nil {
		return o.Key + "=" + o.File.Name()
	}
	return o.Key + "=" + o.Value
}

func source(opts []Option) string {
	for _, o := range opts {
		if o.Key == "source" {
			return o.Value
		}
	}
	return ""
}

// Takes reports whether this kernel's fsType takes the option. It makes nothing.
//
// Old kernels take any option and complain when the file system is made; of those it gives false.
func Takes(fsType string, o Option) (bool, error) {
	fc, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return false, explain(&Error{FSType: fsType, Op: OpOpen, Errno: err.(unix.Errno)})
	}
	defer unix.Close(fc)
	if unix.FsconfigSetFlag(fc, "windlass-no-such-option") == nil {
		return false, nil
	}
	return set(fc, o) == nil, nil
}

// Legacy mounts with mount(2), with options as one text of at most a page: for what an old kernel's fsconfig cannot take. The stage is
// `FSTYPE.create`. On error nothing is mounted.
func Legacy(ctx context.Context, fsType, source, target string, flags uintptr, data string) error {
	if err := CheckFree(target); err != nil {
		return err
	}
	begun, err := legacyCover(ctx, fsType, source, target, flags, data)
	if err != nil && begun {
		if uerr := Unmount(context.WithoutCancel(ctx), target); uerr != nil {
			err = errors.Join(err, uerr)
		}
	}
	return err
}

// LegacyCover is Legacy where something may be mounted already, which it covers. On error it may be there all the same: the caller
// unmounts what there is.
func LegacyCover(ctx context.Context, fsType, source, target string, flags uintptr, data string) error {
	_, err := legacyCover(ctx, fsType, source, target, flags, data)
	return err
}

func legacyCover(ctx context.Context, fsType, source, target string, flags uintptr, data string) (begun bool, err error) {
	if n := os.Getpagesize() - 1; len(data) > n {
		return false, fault.Hintf(fault.New(fault.Unsupported, "mount %s: the options have %d bytes and this kernel takes %d", fsType, len(data), n),
			"use fewer layers or shorter paths, or Linux 6.13 or newer")
	}
	err = step.Do(ctx, fsType+".create", func(context.Context) error {
		begun = true
		return legacy(fsType, source, target, flags, data)
	})
	return begun, err
}

func legacy(fsType, source, target string, flags uintptr, data string) error {
	log := openKernelLog(fsType)
	defer log.close()
	for {
		err := unix.Mount(source, target, fsType, flags, data)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			return nil
		}
		e := &Error{FSType: fsType, Source: source, Op: OpCreate, Messages: log.messages()}
		e.Errno, _ = err.(unix.Errno)
		return explain(e)
	}
}

// contextMessages reads what the kernel has written into the context; each begins with a letter for its kind and a blank.
func contextMessages(fc int) []string {
	var all []string
	buf := make([]byte, 8192)
	for range 16 {
		n, err := unix.Read(fc, buf)
		if err != nil || n == 0 {
			break
		}
		text := strings.TrimSpace(string(buf[:n]))
		if len(text) > 2 && text[1] == ' ' {
			text = text[2:]
		}
		all = append(all, kernellog.Printable(text))
	}
	return all
}
