package serve

import (
	"sync"

	"golang.org/x/sys/unix"
)

// maxPipes is how many pipes of a connection wait for use at most.
const maxPipes = 8

// pipes are those of one connection, empty ones.
type pipes struct {
	mu   sync.Mutex
	idle []pipe
}

// pipe can take a header and the largest read.
type pipe struct{ r, w int }

func (p *pipes) get() (pipe, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		one := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return one, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return pipe{}, err
	}
	one := pipe{fds[0], fds[1]}
	if _, err := unix.FcntlInt(uintptr(one.w), unix.F_SETPIPE_SZ, 2*maxRead); err != nil {
		one.close()
		return pipe{}, err
	}
	return one, nil
}

// put takes an empty pipe back.
func (p *pipes) put(one pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxPipes {
		one.close()
		return
	}
	p.idle = append(p.idle, one)
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.idle {
		one.close()
	}
	p.idle = nil
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// splice answers with n bytes of a file without copying them to this process; false when it could not, and nothing was answered.
func (c *conn) splice(unique uint64, fd int, off int64, n int) bool {
	p, err := c.pipes.get()
	if err != nil {
		return false
	}
	var h [outHeader]byte
	header(h[:], unique, 0, outHeader+n)
	_, err = unix.Write(p.w, h[:])
	for left := n; err == nil && left > 0; {
		var m int64
		m, err = unix.Splice(fd, &off, p.w, nil, left, unix.SPLICE_F_NONBLOCK)
		left -= int(m)
		if err == nil && m == 0 {
			err = unix.EIO // shorter than it should be
		}
	}
	if err != nil {
		p.close()
		return false
	}
	m, err := unix.Splice(p.r, nil, c.fd, nil, outHeader+n, 0)
	if err != nil || m != int64(outHeader+n) {
		p.close()
	} else {
		c.pipes.put(p)
	}
	// The kernel takes an answer or does not know its request any more: then there is nothing to answer.
	return err == nil || err == unix.ENOENT || err == unix.ENODEV
}
