package serve

import (
	"encoding/binary"
	"runtime/debug"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// read answers a read request.
func (c *conn) read(in *fuse.ReadIn) {
	unique := in.Unique
	if in.Size > maxRead {
		c.refuse(&in.InHeader, unix.EINVAL)
		return
	}
	var room []byte
	if c.full {
		buf := c.buffer(int(in.Size))
		defer c.giveBack(buf)
		room = (*buf)[:in.Size]
	}
	r := c.begin(&in.InHeader)
	result, st := c.readFile(r.cancel, in, room)
	c.end(unique, r)
	if !st.Ok() {
		c.refuse(&in.InHeader, unix.Errno(st))
		return
	}
	defer result.Done()
	if s, ok := result.(interface {
		Seekable() (fd uintptr, off int64, n int)
	}); ok {
		fd, off, n := s.Seekable()
		c.sendFile(unique, int(fd), off, n)
		return
	}
	if s, ok := result.(interface {
		Slices() ([][]byte, fuse.Status)
	}); ok {
		if bufs, st := s.Slices(); st.Ok() {
			c.send(unique, 0, bufs...)
			return
		}
	}
	b, st := result.Bytes(room)
	if !st.Ok() {
		c.refuse(&in.InHeader, unix.Errno(st))
		return
	}
	c.send(unique, 0, b)
}

// readFile asks the file system. A panic there must not end the server, which has other readers.
func (c *conn) readFile(cancel <-chan struct{}, in *fuse.ReadIn, room []byte) (result fuse.ReadResult, st fuse.Status) {
	defer func() {
		if p := recover(); p != nil {
			debug.PrintStack()
			st = fuse.EIO
		}
	}()
	return c.fs.Read(cancel, in, room)
}

// spliceFrom is the size at which moving pages through a pipe is faster than copying them twice.
const spliceFrom = 64 << 10

// sendFile answers with n bytes of a file, which has them.
func (c *conn) sendFile(unique uint64, fd int, off int64, n int) {
	if n >= spliceFrom && c.splice(unique, fd, off, n) {
		return
	}
	buf := c.buffer(n)
	defer c.giveBack(buf)
	b := (*buf)[:n]
	for done := 0; done < n; {
		m, err := unix.Pread(fd, b[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || m <= 0 {
			c.send(unique, unix.EIO)
			return
		}
		done += m
	}
	c.send(unique, 0, b)
}

// buffer gives room for n bytes, at most maxRead and a page; giveBack takes it back.
func (c *conn) buffer(n int) *[]byte {
	pool, size := &c.small, spliceFrom
	if n > spliceFrom {
		pool, size = &c.large, maxRead+unix.PathMax
	}
	if buf, ok := pool.Get().(*[]byte); ok {
		return buf
	}
	b := make([]byte, size)
	return &b
}

func (c *conn) giveBack(buf *[]byte) {
	if len(*buf) > spliceFrom {
		c.large.Put(buf)
	} else {
		c.small.Put(buf)
	}
}

// roomFor is how many bytes the answer to a request of n bytes may have at most, of what it asks for itself.
func roomFor(h *fuse.InHeader, n int) int {
	switch {
	case (h.Opcode == opReadDir || h.Opcode == opReadDirPlus) && n >= int(unsafe.Sizeof(fuse.ReadIn{})):
		return int(min((*fuse.ReadIn)(unsafe.Pointer(h)).Size, maxRead))
	case (h.Opcode == opGetXattr || h.Opcode == opListXattr) && n >= int(unsafe.Sizeof(fuse.GetXAttrIn{})):
		return int(min((*fuse.GetXAttrIn)(unsafe.Pointer(h)).Size, maxRead))
	}
	return 0
}

// other has go-fuse answer a request.
func (c *conn) other(in []byte, room int) {
	buf := c.buffer(room + unix.PathMax)
	defer c.giveBack(buf)
	n, st := c.proto.HandleRequest([][]byte{in}, [][]byte{*buf})
	if !st.Ok() {
		c.refuse((*fuse.InHeader)(unsafe.Pointer(&in[0])), unix.EIO)
		return
	}
	if n > 0 {
		c.write([][]byte{(*buf)[:n]})
	}
}

func (c *conn) refuse(h *fuse.InHeader, errno unix.Errno) { c.send(h.Unique, errno) }

// send answers a request. That the kernel does not know it any more, since it was interrupted or an earlier server answered it, is no
// error; nor is that the connection has ended: those who wait for requests learn that too.
func (c *conn) send(unique uint64, errno unix.Errno, body ...[]byte) {
	var h [outHeader]byte
	n := outHeader
	for _, b := range body {
		n += len(b)
	}
	header(h[:], unique, errno, n)
	c.write(append([][]byte{h[:]}, body...))
}

func (c *conn) write(b [][]byte) {
	for {
		_, err := unix.Writev(c.fd, b)
		if err != unix.EINTR && err != unix.EAGAIN {
			return
		}
	}
}

func header(h []byte, unique uint64, errno unix.Errno, n int) {
	binary.NativeEndian.PutUint32(h, uint32(n))
	binary.NativeEndian.PutUint32(h[4:], uint32(-int32(errno)))
	binary.NativeEndian.PutUint64(h[8:], unique)
}
