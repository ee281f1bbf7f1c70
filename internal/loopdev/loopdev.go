// Package loopdev makes, finds and clears loop devices: block devices whose bytes are those of a file.
//
// A device carries a name of ours in the kernel (lo_file_name), so whoever made it finds it again by asking the kernel alone. The
// package owns no device and keeps no list; it never clears a device that is in use.
package loopdev

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// MaxName is how many bytes of a name the kernel keeps.
const MaxName = unix.LO_NAME_SIZE - 1

// Options says what device is wanted.
type Options struct {
	// File is what the device is made of, a regular file or a block device. The kernel keeps it open itself; it can be closed after
	// Attach. A device on a file that is open read-only is read-only.
	File *os.File
	// Name is lo_file_name, at most MaxName bytes.
	Name      string
	ReadOnly  bool
	Offset    uint64 // bytes of the file to skip
	SizeLimit uint64 // bytes, 0: up to the end of the file
	DirectIO  bool   // bypass the page cache for the file; Unsupported when its file system cannot
	PartScan  bool   // have the kernel read the partition table
	Autoclear bool   // the device goes when its last user closes it
	BlockSize uint32 // logical block size in bytes, 0: the kernel's choice
}

// Device is a loop device that is configured.
type Device struct {
	Path        string // such as /dev/loop3
	Number      int    // 3
	DevNum      uint64 // its st_rdev
	Name        string // lo_file_name
	BackingFile string // path of the file, as the kernel sees it now; "(deleted)" behind it when it has no name any more
	ReadOnly    bool
	Autoclear   bool
	DirectIO    bool
	PartScan    bool
	Offset      uint64
	SizeLimit   uint64
}

// status asks the kernel what the open device is. ENXIO: it is not configured.
func status(f *os.File) (*unix.LoopInfo64, error) {
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("LOOP_GET_STATUS64", err)
	}
	return info, nil
}

func nameOf(info *unix.LoopInfo64) string {
	name, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	return string(name)
}

// describe makes a Device of what the kernel said of number.
func describe(number int, devnum uint64, info *unix.LoopInfo64) Device {
	return Device{
		Path: path(number), Number: number, DevNum: devnum,
		Name: nameOf(info), BackingFile: backingFile(number),
		ReadOnly:  info.Flags&unix.LO_FLAGS_READ_ONLY != 0,
		Autoclear: info.Flags&unix.LO_FLAGS_AUTOCLEAR != 0,
		DirectIO:  info.Flags&unix.LO_FLAGS_DIRECT_IO != 0,
		PartScan:  info.Flags&unix.LO_FLAGS_PARTSCAN != 0,
		Offset:    info.Offset, SizeLimit: info.Sizelimit,
	}
}

func path(number int) string { return fmt.Sprintf("/dev/loop%d", number) }

// numberOf reads the number from a path such as /dev/loop3.
func numberOf(path string) (int, error) {
	digits, ok := strings.CutPrefix(filepath.Base(path), "loop")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, fault.New(fault.Invalid, "%s is not the path of a loop device, such as /dev/loop3", path)
	}
	return n, nil
}

func sysfs(number int, rest string) string { return fmt.Sprintf("/sys/block/loop%d/%s", number, rest) }

// backingFile is "" for a device that is not configured.
func backingFile(number int) string {
	b, err := os.ReadFile(sysfs(number, "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}
