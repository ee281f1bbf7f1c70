package fsmount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// magics are the marks by which file systems and images are known, with where they lie.
func magics() []struct {
	name   string
	offset int64
	mark   string
} {
	return []struct {
		name   string
		offset int64
		mark   string
	}{
		{"squashfs", 0, "hsqs"},
		{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
		{"ext4", 1080, "\x53\xef"},
		{"xfs", 0, "XFSB"},
		{"btrfs", 65600, "_BHRfS_M"},
		{"iso9660", 32769, "CD001"},
		{"f2fs", 1024, "\x10\x20\xf5\xf2"},
		{"cramfs", 0, "\x45\x3d\xcd\x28"},
		{"LUKS", 0, "LUKS\xba\xbe"},
		{"swap", 4086, "SWAPSPACE2"},
		{"LVM", 536, "LVM2 001"},
		{"a gzip file", 0, "\x1f\x8b"},
		{"a zstd file", 0, "\x28\xb5\x2f\xfd"},
		{"an xz file", 0, "\xfd7zXZ\x00"},
		{"a qcow2 disk", 0, "QFI\xfb"},
		{"a tar archive", 257, "ustar"},
		{"a GPT partition table", 512, "EFI PART"},
		{"an MBR partition table or boot sector", 510, "\x55\xaa"},
	}
}

// Identify says what a file or block device holds, by its first bytes alone: the name of a file system as mount(8) knows it (ext4
// also for ext2 and ext3), or words for something else, or "" when nothing is known.
func Identify(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, m := range magics() {
		got := make([]byte, len(m.mark))
		if _, err := f.ReadAt(got, m.offset); err != nil {
			if errors.Is(err, io.EOF) {
				continue
			}
			return "", fmt.Errorf("read %s: %w", path, err)
		}
		if bytes.Equal(got, []byte(m.mark)) {
			return m.name, nil
		}
	}
	return "", nil
}
