package rbd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// blockSize is what the size of an image is a multiple of: no file system has device blocks that are larger, and the kernel cuts off what
// is no whole sector.
const blockSize = 4096

// grain is the unit in which zeros are left out.
const grain = 64 << 10

// source is a file that becomes an image.
type source struct {
	file   *os.File
	before os.FileInfo
	length int64
	holds  string // see fsmount.Identify
	sum    hash.Hash
}

// openSource opens a regular file or a block device.
func openSource(path string) (_ *source, err error) {
	f, err := os.Open(path)
	if err != nil {
		kind := fault.Invalid
		if errors.Is(err, os.ErrNotExist) {
			kind = fault.NotFound
		}
		return nil, fault.New(kind, "read the image: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	block := st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0
	if !st.Mode().IsRegular() && !block {
		return nil, fault.Hintf(fault.New(fault.Invalid, "%s is no file", path), "make an image of a directory first: mksquashfs DIRECTORY IMAGE.sqsh -comp zstd")
	}
	s := &source{file: f, before: st, sum: sha256.New()}
	if s.length, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	if s.length == 0 {
		return nil, fault.New(fault.Invalid, "%s is empty", path)
	}
	s.holds, err = fsmount.Identify(path)
	return s, err
}

func (s *source) Close() error { return s.file.Close() }

// size is that of the image.
func (s *source) size() uint64 { return uint64(s.length+blockSize-1) / blockSize * blockSize }

// read reads one piece of the file from the first byte on; the pieces must be read in their order, as the digest is made of them. It
// fills p but at the end.
func (s *source) read(at int64, p []byte) (int, error) {
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.length-at)], at)
	if errors.Is(err, io.EOF) && at+int64(n) < s.length {
		err = io.ErrUnexpectedEOF
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return n, fmt.Errorf("read %s at %d: %w", s.file.Name(), at, err)
	}
	s.sum.Write(p[:n])
	return n, nil
}

// digest is that of what was read.
func (s *source) digest() string { return digestOf(s.sum) }

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// unchanged says whether the file was left alone while it was read.
func (s *source) unchanged() error {
	now, err := s.file.Stat()
	if err != nil {
		return err
	}
	if now.Size() != s.before.Size() || !now.ModTime().Equal(s.before.ModTime()) {
		return fault.Hintf(fault.New(fault.BadState, "%s was changed while it was read", s.file.Name()), "publish it once it is complete")
	}
	return nil
}

// pieces gives the offsets of the pieces of a file.
func pieces(ctx context.Context, length, piece int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for at := int64(0); at < length; at += piece {
			if ctx.Err() != nil || !yield(at) {
				return
			}
		}
	}
}

// stretches gives the parts of p that hold more than zeros, with their offsets in it.
func stretches(p []byte) iter.Seq2[int, []byte] {
	var zeros [grain]byte
	return func(yield func(int, []byte) bool) {
		begin := -1
		for at := 0; at < len(p); at += grain {
			end := min(at+grain, len(p))
			empty := bytes.Equal(p[at:end], zeros[:end-at])
			if begin >= 0 && empty {
				if !yield(begin, p[begin:at]) {
					return
				}
				begin = -1
			} else if begin < 0 && !empty {
				begin = at
			}
		}
		if begin >= 0 {
			yield(begin, p[begin:])
		}
	}
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
