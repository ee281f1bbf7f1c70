package erofs

import "golang.org/x/sys/unix"

// fileTypes are the types as a dirent says them.
var fileTypes = [...]uint32{1: unix.S_IFREG, 2: unix.S_IFDIR, 3: unix.S_IFCHR, 4: unix.S_IFBLK, 5: unix.S_IFIFO, 6: unix.S_IFSOCK, 7: unix.S_IFLNK}

// fileType gives the number of a mode's type, or 0.
func fileType(mode uint32) byte {
	for i, t := range fileTypes {
		if t != 0 && t == mode&unix.S_IFMT {
			return byte(i)
		}
	}
	return 0
}

// encodeDev packs a device number as Linux's new_encode_dev does: 12 bits of major, 20 of minor.
func encodeDev(rdev uint64) (uint32, bool) {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	if major >= 1<<12 || minor >= 1<<20 {
		return 0, false
	}
	return minor&0xff | major<<8 | (minor&^0xff)<<12, true
}

func decodeDev(v uint32) uint64 { return unix.Mkdev(v&0xfff00>>8, v&0xff|v>>12&0xfff00) }

func isDir(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }
func isReg(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFREG }
func isLink(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFLNK
}

func isDevice(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR || mode&unix.S_IFMT == unix.S_IFBLK
}
