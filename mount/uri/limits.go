package uri

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// inodes is how many files a tmpfs of size may have. The memory of an inode is not counted against the size. It is what the kernel
// allows by itself, a file a page, and some more so that a small one may hold many links and directories.
func inodes(size int64) int64 { return size/4096 + 8192 }

// workLimit bounds what is read and unpacked for a tmpfs of size bytes. An archive has headers and holes, which take no memory; it may
// be twice as large and a bit.
func workLimit(size int64) int64 { return 2*size + 1<<30 }

// tooLarge says to whom a file is too large what can be done.
func tooLarge(err error, p plan) error {
	if !fault.Is(err, fault.TooLarge) {
		return err
	}
	return fault.Hintf(err, "raise uri.size, now %d bytes, if the node has the memory", p.size)
}

// imageError explains what ended a download after n bytes.
func imageError(err error, p plan, n int64) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		return fault.Hintf(fault.New(fault.Unavailable, "read %s: the node's memory is full after %d bytes: %w", p.src, n, err),
			"free memory on the node, or take a smaller image")
	}
	return tooLarge(err, p)
}

// archiveError explains what ended an unpacking into the tmpfs mnt; nil stays nil.
func archiveError(err error, p plan, mnt *os.File) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOSPC) {
		return tooLarge(wrapRead(err, p), p)
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(mnt.Fd()), &st) == nil && st.Ffree == 0 {
		return fault.Hintf(fault.New(fault.TooLarge, "%s has more files than the %d that go with a size of %d bytes: %w", p.src, st.Files, p.size, err),
			"raise uri.size: a file is allowed for every 4096 bytes of it")
	}
	return fault.Hintf(fault.New(fault.TooLarge, "what is in %s takes more than the %d bytes that it may: %w", p.src, p.size, err),
		"raise uri.size, now %d bytes, if the node has the memory", p.size)
}

// wrapRead says which archive is damaged; what was said of the download names it already.
func wrapRead(err error, p plan) error {
	if !fault.Is(err, fault.Corrupt) || strings.Contains(err.Error(), p.src.String()) {
		return err
	}
	return fault.Hintf(fault.New(fault.Corrupt, "unpack %s: %w", p.src, err), "%s", fault.HintOf(err))
}
