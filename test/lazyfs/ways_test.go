package lazyfs

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// way is one way to read: bytes of a file, at an offset, into b.
type way struct {
	name string
	read func(fd int, path string, b []byte, off int64) (int, error)
	cold bool // drop the file's pages before
}

func ways() []way {
	return []way{
		{"pread", pread, true}, {"page cache", pread, false}, {"mmap", mapped, true}, {"mmap of the page cache", mapped, false},
		{"splice", splice, true}, {"O_DIRECT", direct(), true}, {"sendfile", sendfile, true}, {"readv", readv, true},
	}
}

// one opens a file and reads from it, all of b.
func one(path string, how way, b []byte, off int64) error {
	fd, err := open(path, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	clear(b)
	if how.cold {
		if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("fadvise: %w", err)
		}
	}
	n, err := how.read(fd, path, b, off)
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d bytes of %d", n, len(b))
	}
	return err
}

func open(path string, flags int) (int, error) {
	return again(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0) })
}

func again(do func() (int, error)) (int, error) {
	for {
		if n, err := do(); err != unix.EINTR {
			return n, err
		}
	}
}

// full reads until b is full or the file ends.
func full(b []byte, read func(b []byte, done int) (int, error)) (int, error) {
	done := 0
	for done < len(b) {
		n, err := again(func() (int, error) { return read(b[done:], done) })
		if err != nil || n == 0 {
			return done, err
		}
		done += n
	}
	return done, nil
}

func pread(fd int, _ string, b []byte, off int64) (int, error) {
	return full(b, func(b []byte, done int) (int, error) { return unix.Pread(fd, b, off+int64(done)) })
}

// readv reads into odd pieces.
func readv(fd int, _ string, b []byte, off int64) (int, error) {
	return full(b, func(b []byte, done int) (int, error) {
		at := min(len(b), 4097)
		return unix.Preadv(fd, [][]byte{b[:at], b[at:]}, off+int64(done))
	})
}

// mapped copies from a mapping; a page that cannot be read is an error.
func mapped(fd int, _ string, b []byte, off int64) (n int, err error) {
	page := off / 4096 * 4096
	m, err := unix.Mmap(fd, page, int(off-page)+len(b), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("page fault: %v", p)
		}
		err = errors.Join(err, unix.Munmap(m))
	}()
	return copy(b, m[off-page:]), nil
}

// direct reads past the page cache where the file system can.
func direct() func(fd int, path string, b []byte, off int64) (int, error) {
	room := make([]byte, 1<<20)
	room = room[-int(uintptr(unsafe.Pointer(&room[0])))&4095:]
	return func(fd int, path string, b []byte, off int64) (int, error) {
		past, err := open(path, unix.O_DIRECT)
		if err == unix.EINVAL {
			return pread(fd, path, b, off)
		}
		if err != nil {
			return 0, err
		}
		defer unix.Close(past)
		from := off / 4096 * 4096
		all := room[:(off-from+int64(len(b))+4095)/4096*4096]
		n, err := again(func() (int, error) { return unix.Pread(past, all, from) })
		return copy(b, all[min(int(off-from), max(n, 0)):max(n, 0)]), err
	}
}

// splice moves pages into a pipe.
func splice(fd int, _ string, b []byte, off int64) (int, error) {
	return through(b, func(w int, left int) (int, error) {
		n, err := unix.Splice(fd, &off, w, nil, left, 0)
		return int(n), err
	})
}

// sendfile does the same the old way.
func sendfile(fd int, _ string, b []byte, off int64) (int, error) {
	return through(b, func(w int, left int) (int, error) { return unix.Sendfile(w, fd, &off, left) })
}

// through has something written to a pipe and reads it from there.
func through(b []byte, write func(w, left int) (int, error)) (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	done := 0
	for done < len(b) {
		n, err := write(p[1], min(len(b)-done, 32<<10))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return done, err
		}
		for end := done + n; done < end; {
			k, err := unix.Read(p[0], b[done:end])
			if err != nil {
				return done, err
			}
			done += k
		}
	}
	return done, nil
}
