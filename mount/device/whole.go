package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// checkWhole compares the length that the superblock of a squashfs or erofs gives with that of the device. erofs mounts a truncated
// image without a word and fails later, at a read of a file. The other file systems look themselves. What is no such image is left for
// the kernel to judge.
func checkWhole(fsType, path string) error {
	if !onlyReads(fsType) {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.NotFound, "mount %s: %w", fsType, err)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", fsType, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("mount %s: size of %s: %w", fsType, path, err)
	}
	want, ok := squashfsLength, fsType == "squashfs"
	if !ok {
		want = erofsLength
	}
	if n := want(f); n > uint64(size) {
		err := fault.New(fault.Corrupt, "mount %s from %s: the image is truncated: it should have %d bytes and has %d", fsType, path, n, size)
		return fault.Hintf(err, "fetch or build the image again")
	}
	return nil
}

// squashfsLength reads bytes_used (fs/squashfs/squashfs_fs.h); 0 when it is no squashfs.
func squashfsLength(r io.ReaderAt) uint64 {
	var sb [48]byte
	if _, err := r.ReadAt(sb[:], 0); err != nil || string(sb[:4]) != "hsqs" {
		return 0
	}
	return binary.LittleEndian.Uint64(sb[40:])
}

// erofsLength reads blkszbits and blocks (fs/erofs/erofs_fs.h); 0 when it is no erofs.
func erofsLength(r io.ReaderAt) uint64 {
	var sb [40]byte
	if _, err := r.ReadAt(sb[:], 1024); err != nil || binary.LittleEndian.Uint32(sb[:]) != 0xe0f5e1e2 {
		return 0
	}
	bits := sb[12]
	if bits < 9 || bits > 16 { // the kernel refuses it
		return 0
	}
	return uint64(binary.LittleEndian.Uint32(sb[36:])) << bits
}
