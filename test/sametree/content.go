package sametree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const readSize = 256 << 10

// buffers are for reading: two for each pair of files.
var buffers = sync.Pool{New: func() any { return new([2][readSize]byte) }}

// content compares two files by their bytes.
func (d *differ) content(j job) {
	n, err := d.differs(j)
	if err != nil {
		d.say(j.path, "%v", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Files++
	d.report.Bytes += n
}

// differs reads both files to their ends, or to where they differ; n is what it has read of each.
func (d *differ) differs(j job) (n int64, err error) {
	want, err := os.Open(j.want)
	if err != nil {
		return 0, err
	}
	defer want.Close()
	got, err := os.Open(j.got)
	if err != nil {
		return 0, err
	}
	defer got.Close()
	buf := buffers.Get().(*[2][readSize]byte)
	defer buffers.Put(buf)
	for at := int64(0); at < j.size; {
		if err := d.ctx.Err(); err != nil {
			return n, nil //nolint:nilerr // Diff says so once
		}
		// What is a hole in both is the same.
		at = min(dataAfter(want, at), dataAfter(got, at))
		size := min(readSize, j.size-at)
		if size <= 0 {
			break
		}
		w, g := buf[0][:size], buf[1][:size]
		if err := readBoth(want, got, w, g, at); err != nil {
			return n, err
		}
		n += size
		if !bytes.Equal(w, g) {
			return n, differenceOf(w, g, at)
		}
		at += size
	}
	return n, ends(got, j.size)
}

func readBoth(want, got *os.File, w, g []byte, at int64) error {
	if _, err := want.ReadAt(w, at); err != nil {
		return fmt.Errorf("read it at %d: %w", at, err)
	}
	if n, err := got.ReadAt(g, at); err != nil {
		return fmt.Errorf("reading it at %d gave %d of %d bytes: %w", at, n, len(g), err)
	}
	return nil
}

// dataAfter gives where data goes on at or after at, as far as the file system knows; behind the last data the largest number.
func dataAfter(f *os.File, at int64) int64 {
	off, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return 1<<63 - 1
	case err != nil:
		return at
	}
	return off
}

// ends says whether there is more of a file than its size says.
func ends(f *os.File, size int64) error {
	var p [1]byte
	if n, err := f.ReadAt(p[:], size); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("at its end, %d, reading gave %d bytes and %v", size, n, err)
	}
	return nil
}

func differenceOf(w, g []byte, at int64) error {
	first, count := -1, 0
	for i := range w {
		if w[i] != g[i] {
			if count++; first < 0 {
				first = i
			}
		}
	}
	end := min(first+16, len(w))
	return fmt.Errorf("its content differs at byte %d: % x, want % x (%d bytes of the %d from %d on)", at+int64(first), g[first:end], w[first:end], count, len(w), at)
}
