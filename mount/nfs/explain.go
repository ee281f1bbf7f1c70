package nfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
)

// explain gives the failure of an attempt its kind, a text that names export, address and port, and a hint.
func (a attempt) explain(err error, took time.Duration) error {
	what := fmt.Sprintf("mount %s by NFS %s", a.r.source(), a.version)
	var answer *fsmount.Error
	isAnswer := errors.As(err, &answer)
	switch {
	case isAnswer && answer.Op == fsmount.OpOpen && answer.Errno == unix.ENODEV:
		return fault.Hintf(fault.New(fault.Unsupported, "%s: %w", what, err), "load the module (modprobe nfsv%s), or use a kernel that has NFS", a.version[:1])
	case isAnswer && answer.Op == fsmount.OpOption:
		return err // it names the option and has a hint
	case silent(err):
		return a.noAnswer(what, err, took)
	case unreachable(err):
		return fault.Hintf(fault.New(fault.Unavailable, "%s: nothing can be reached at %s: %w", what, a.at(err), bare(err)),
			"see that the server runs there, and that no firewall is between; another port is the option port=N")
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EPFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return a.wrongVersion(what, err)
	case errors.Is(err, unix.ENOENT):
		return a.noExport(what, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return a.denied(what, err)
	case errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.Invalid, "%s: on %s it is no directory: %w", what, a.addr, bare(err))
	case errors.Is(err, unix.EINVAL):
		return fault.Hintf(fault.New(fault.Invalid, "%s: %w", what, err), "the options do not go together, or not with this kernel")
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ESTALE), errors.Is(err, unix.EREMOTEIO):
		return fault.New(fault.Backend, "%s: %s answered badly: %w", what, a.addr, bare(err))
	}
	return fault.Hintf(fault.New(fault.KindOf(err), "%s from %s: %w", what, a.addr, err), "%s", fault.HintOf(err))
}

// silent says whether nobody answered in time.
func silent(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT)
}

func (a attempt) noAnswer(what string, err error, took time.Duration) error {
	hint := "see that the server runs and that the node can reach it"
	if sec := a.r.said["sec"]; strings.Contains(sec, "krb5") {
		hint += "; sec=" + sec + " also needs rpc.gssd on the node"
	}
	text := ""
	var stuck *helper.Stuck
	var told *fault.Error
	var dialled *net.OpError
	switch {
	case errors.As(err, &stuck):
		text = "; " + stuck.Error()
	case !errors.As(err, &told) && !errors.As(err, &dialled): // it says more than that
		text = ": " + err.Error()
	}
	return fault.Hintf(fault.New(fault.Timeout, "%s: no answer from %s in %s%s%w", what, a.at(err), seconds(took), text, mute{err}), "%s", hint)
}

func (a attempt) wrongVersion(what string, err error) error {
	if _, serr := os.Stat("/sys/module/nfsv" + a.version[:1]); serr != nil {
		return fault.Hintf(fault.New(fault.Unsupported, "%s: this kernel does not have that version: %w", what, bare(err)), "load the module: modprobe nfsv%s", a.version[:1])
	}
	all := strings.Join(a.r.versions, ", ")
	return fault.Hintf(fault.New(fault.Unsupported, "%s: %s does not speak NFS %s: %w", what, a.addr, all, bare(err)), "ask for another version")
}

func (a attempt) noExport(what string, err error) error {
	hint := "with NFS 4 the path begins at the root of what the server exports, which need not be where the directory lies on it"
	if a.version == "3" {
		hint = "with NFS 3 the path is where the directory lies on the server"
	}
	return fault.Hintf(fault.New(fault.NotFound, "%s: %s has no such export: %w", what, a.addr, bare(err)), "%s", hint)
}

// denied is also what many a server of NFS 3 says of what it does not export.
func (a attempt) denied(what string, err error) error {
	text := "does not let this node have it"
	if a.version == "3" {
		text += ", or has no such export"
	}
	return fault.Hintf(fault.New(fault.Forbidden, "%s: %s %s: %w", what, a.addr, text, bare(err)),
		"see that the server exports it to this node, with the sec= that is asked for, and to ports above 1023 with noresvport")
}

// at is where the server was asked, as precisely as is known: the ports that rpcbind tells the kernel it keeps to itself.
func (a attempt) at(err error) string {
	var dialled *net.OpError
	_, given := a.r.said["port"]
	port := a.r.firstPort(a.version)
	if port != 0 && (a.version != "3" || given || errors.As(err, &dialled)) {
		return netip.AddrPortFrom(a.addr, port).String()
	}
	return a.addr.String()
}

// bare is what the kernel said, without what is said already.
func bare(err error) error {
	var answer *fsmount.Error
	if errors.As(err, &answer) {
		// It says so whatever went wrong.
		said := slices.DeleteFunc(slices.Clone(answer.Messages), func(m string) bool { return m == "NFS4: Couldn't follow remote path" })
		if len(said) == 0 {
			return answer.Errno
		}
		return fmt.Errorf("%s: %w", strings.Join(said, "; "), answer.Errno)
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// mute is an error that can be asked for but says nothing.
type mute struct{ error }

func (mute) Error() string   { return "" }
func (m mute) Unwrap() error { return m.error }

func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// hopeless says that another address would not help.
func hopeless(err error) bool {
	return fault.Is(err, fault.Invalid) || fault.Is(err, fault.Unsupported)
}

// together makes one error of those of all addresses. That of a server which answered says more than that of one that did not.
func together(failed []error) error {
	best := 0
	for i, err := range failed {
		if !fault.Is(err, fault.Timeout) && !fault.Is(err, fault.Unavailable) {
			best = i
			break
		}
	}
	err := failed[best]
	for i, other := range failed {
		if i != best {
			err = fault.Hintf(fault.New(fault.KindOf(err), "%w; %w", err, other), "%s", fault.HintOf(err))
		}
	}
	return err
}
