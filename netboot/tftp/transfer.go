package tftp

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// errOnlySize is how a transfer ends of which the node wanted to know the size alone, as firmware does before it fetches a file.
var errOnlySize = errors.New("the node asked for the size alone")

// minBuffer is how much is read from a file at once, at least.
const minBuffer = 16 << 10

// transfer is one file on its way to one node. It belongs to its port, and is guarded by that.
type transfer struct {
	*request
	f      *os.File
	length int64
	last   int // number of the last block, which is not full; the first is 1
	// base is the first block that was not answered yet. It is above last at the end.
	base    int
	options bool // are not answered yet
	buf     []byte
	at      int64 // of what buf holds; have says how much
	have    int
	tries   int
	sent    time.Time
	due     time.Time // then it is sent again
}

func newTransfer(s *Server, r *request, f *os.File, length int64) *transfer {
	t := &transfer{request: r, f: f, length: length, last: int(length/int64(r.block)) + 1, base: 1, options: r.size || r.blocks || r.windows}
	size := int64(max(minBuffer, 2*r.window*r.block))
	t.buf = make([]byte, min(size, max(length, 1)))
	return t
}

// oack is the packet that answers the options.
func (t *transfer) oack() []byte {
	p := []byte{0, opOptions}
	option := func(name string, v int64) {
		p = append(append(append(append(p, name...), 0), strconv.FormatInt(v, 10)...), 0)
	}
	if t.size {
		option("tsize", t.length)
	}
	if t.blocks {
		option("blksize", int64(t.block))
	}
	if t.windows {
		option("windowsize", int64(t.window))
	}
	return p
}

// end is the block behind the window.
func (t *transfer) end() int { return min(t.base+t.window, t.last+1) }

// holds reports whether the window is in the buffer.
func (t *transfer) holds() bool {
	from, to := t.window64()
	return from >= t.at && to <= t.at+int64(t.have)
}

// window64 is where the window begins and ends in the file.
func (t *transfer) window64() (from, to int64) {
	return int64(t.base-1) * int64(t.block), min(int64(t.end()-1)*int64(t.block), t.length)
}

// fill reads the window, and what comes after it, into the buffer.
func (t *transfer) fill() error {
	from, to := t.window64()
	n, err := t.f.ReadAt(t.buf, from)
	t.at, t.have = from, n
	if int64(n) < to-from {
		if err == nil || err == io.EOF {
			err = fault.New(fault.Internal, "the file became shorter while it was sent")
		}
		return err
	}
	return nil
}

// data fills in a message with a block of the window; head is for its first bytes.
func (t *transfer) data(m *ipv4.Message, head []byte, block int) {
	binary.BigEndian.PutUint16(head, opData)
	binary.BigEndian.PutUint16(head[2:], uint16(block))
	from := int64(block-1) * int64(t.block)
	to := min(from+int64(t.block), t.length)
	m.Buffers[0], m.Buffers[1] = head, t.buf[from-t.at:to-t.at]
	m.Addr, m.OOB = t.to, t.oob
}

// answered takes an acknowledgement. send says that the window is to be sent; done that all has come.
func (t *transfer) answered(block uint16, now time.Time) (send, done bool) {
	if t.options {
		t.options = block != 0
		return block == 0, false
	}
	ahead := int(block - uint16(t.base-1)) // modulo 65536, which is more than a window
	switch {
	case ahead == 0: // the node misses the first of the window, or has answered a block that was sent twice: RFC 1123, 4.2.3.1
		return t.window > 1 && now.Sub(t.sent) > 20*time.Millisecond, false
	case ahead > t.end()-t.base:
		return false, false
	}
	t.base += ahead
	t.tries = 0
	return t.base <= t.last, t.base > t.last
}

// again reports whether what was sent is to be sent again: nobody answered. false is the end.
func (t *transfer) again() bool {
	t.tries++
	if t.options || t.base == 1 {
		return t.tries <= firstRetries
	}
	return t.tries <= retries
}

// wait sets when what is sent now is sent again.
func (t *transfer) wait(now time.Time) {
	t.sent = now
	t.due = now.Add(min(timeout<<t.tries, maxTimeout))
}
