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
			c.interruptAll()
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
	case n < inHeader || h.Opcode == opForget || h.Opcode == opBatchForget:
		// Nodes have fixed numbers: what the kernel forgets need not be known.
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

// interrupt ends a read, or whatever go-fuse does, that nobody waits for any more. When the request is not known, it is answered already or
// has only just come: go-fuse answers that the kernel shall ask again, which it does in the second case.
func (c *conn) interrupt(in []byte) {
	if len(in) < inHeader+8 {
		return
	}
	unique := binary.NativeEndian.Uint64(in[inHeader:])
	c.mu.Lock()
	cancel, known := c.reads[unique]
	if cancel != nil {
		close(cancel)
		c.reads[unique] = nil
	}
	c.mu.Unlock()
	if !known {
		c.other(in, 0)
	}
}

func (c *conn) interruptAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for unique, cancel := range c.reads {
		if cancel != nil {
			close(cancel)
			c.reads[unique] = nil
		}
	}
}

// begin makes a read known to interrupts.
func (c *conn) begin(unique uint64) chan struct{} {
	cancel := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads[unique] = cancel
	return cancel
}

func (c *conn) end(unique uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reads, unique)
}
