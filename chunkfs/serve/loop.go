package serve

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Of the protocol, what go-fuse does not export: include/uapi/linux/fuse.h.
const (
	inHeader  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeader = 16

	opForget      = 2
	opRead        = 15
	opGetXattr    = 22
	opListXattr   = 23
	opReadDir     = 28
	opInterrupt   = 36
	opBatchForget = 42
	opReadDirPlus = 44
)

// serve answers the kernel until it ends the connection: first what the last server left in the journal.
func (c *conn) serve() {
	left := c.journal.left()
	c.loops.Add(1)
	go func() {
		for _, slot := range left {
			c.loops.Go(func() { c.request(slot, int(*c.journal.length(slot))) })
		}
		c.loop()
		c.loops.Wait()
		close(c.ended)
	}()
}

// loop reads requests and answers them. There is always one goroutine that waits for the next request, and not many more: one that has
// taken a request while nobody else waited starts another before it answers.
func (c *conn) loop() {
	defer c.loops.Done()
	for c.wait() {
		slot := c.journal.take()
		n, err := unix.Readv(c.fd, [][]byte{c.journal.slot(slot), c.journal.rest()})
		last := c.waited()
		switch {
		case err == unix.ENOENT || err == unix.EINTR || err == unix.EAGAIN: // the request was taken back, or there is none
			c.journal.done(slot)
			continue
		case err != nil: // ENODEV: the kernel has ended the connection
			c.journal.done(slot)
			c.giveUp()
			return
		}
		if last {
			c.loops.Add(1)
			go c.loop()
		}
		c.request(slot, n)
	}
}

// wait says whether one more may wait for requests.
func (c *conn) wait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers >= max(2, runtime.GOMAXPROCS(0)) {
		return false
	}
	c.readers++
	return true
}

// waited says whether nobody else waits for requests.
func (c *conn) waited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers--
	return c.readers == 0
}

// request answers the request of n bytes in a slot, and frees that.
func (c *conn) request(slot, n int) {
	defer c.journal.done(slot)
	in := c.journal.slot(slot)
	h := (*fuse.InHeader)(unsafe.Pointer(&in[0]))
	switch {
	case n < inHeader:
	case h.Opcode == opForget:
		c.fs.Forget(h.NodeId, 1)
	case h.Opcode == opBatchForget:
		c.forget(in[:min(n, slotSize)])
	case n > slotSize:
		c.refuse(h, unix.E2BIG)
	case h.Opcode == opInterrupt:
		c.interrupt(in[:n])
	case h.Opcode == opRead && n >= int(unsafe.Sizeof(fuse.ReadIn{})):
		c.read((*fuse.ReadIn)(unsafe.Pointer(&in[0])))
	default:
		c.other(in[:n], roomFor(h, n))
	}
}

// forget passes on what of a FORGET of many lies in the slot. Nodes have fixed numbers and are not counted; a file system that wants to
// know when a file is not in use any more asks for that, and gets a FORGET of its own.
func (c *conn) forget(in []byte) {
	const count, one = 8, 16 // fuse_batch_forget_in, fuse_forget_one
	for at := inHeader + count; at+one <= len(in); at += one {
		c.fs.Forget(binary.NativeEndian.Uint64(in[at:]), 1)
	}
}

// interrupt is what the kernel says when a reader has got a signal. When its request is not known, it is answered already or has only just
// come: go-fuse answers that the kernel shall ask again, which it does in the second case.
func (c *conn) interrupt(in []byte) {
	if len(in) < inHeader+8 {
		return
	}
	unique := binary.NativeEndian.Uint64(in[inHeader:])
	c.mu.Lock()
	r := c.reads[unique]
	c.mu.Unlock()
	if r == nil {
		c.other(in, 0)
		return
	}
	go r.watch()
}

// begin makes a read known to interrupts.
func (c *conn) begin(h *fuse.InHeader) *reading {
	r := &reading{node: h.NodeId, pid: h.Pid, cancel: make(chan struct{}), done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads[h.Unique] = r
	if c.abandoned[r.node] {
		r.giveUp()
	}
	return r
}

func (c *conn) end(unique uint64, r *reading) {
	close(r.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reads, unique)
}

// giveUp ends all reads: the connection has ended.
func (c *conn) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reads {
		r.giveUp()
	}
}
