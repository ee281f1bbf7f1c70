package shim

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// console is the container's /dev/console: a pseudoterminal of its own devpts, whose output goes to the log.
type console struct {
	master *os.File
	slave  int // held, so that the master never sees the end while the container has it closed
	number int
	log    *logFile
	done   chan struct{}
}

// openConsole makes the terminal. Output is left as it is written, so that lines of a plain command end in \n alone.
func openConsole(pts int, log *logFile) (*console, error) {
	master, slave, number, err := openTerminal(pts)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(slave, unix.TCGETS)
	if err == nil {
		t.Oflag &^= unix.OPOST
		t.Lflag &^= unix.ECHO
		err = unix.IoctlSetTermios(slave, unix.TCSETS, t)
	}
	if err != nil {
		unix.Close(slave)
		master.Close()
		return nil, fmt.Errorf("set up the console: %w", err)
	}
	return &console{master: master, slave: slave, number: number, log: log, done: make(chan struct{})}, nil
}

// openTerminal makes a pseudoterminal in the devpts at pts.
func openTerminal(pts int) (master *os.File, slave, number int, err error) {
	fd, err := unix.Openat(pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, 0, fmt.Errorf("open a terminal: %w", err)
	}
	slave = -1
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		if number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil {
			slave, err = openPeer(fd)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, -1, 0, fmt.Errorf("open a terminal: %w", err)
	}
	return os.NewFile(uintptr(fd), "pts/"+strconv.Itoa(number)), slave, number, nil
}

// openPeer opens the other side of a terminal, whatever is mounted where.
func openPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// pump copies the console to the log until the terminal has no other side any more.
func (c *console) pump() {
	defer close(c.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := c.master.Read(buf)
		c.log.write(buf[:n])
		if err != nil {
			return
		}
	}
}

// drainWait bounds waiting for the last output.
const drainWait = 2 * time.Second

// drain reads what is left once everybody has gone, and closes the log.
func (c *console) drain() {
	unix.Close(c.slave)
	_ = c.master.SetReadDeadline(time.Now().Add(drainWait))
	<-c.done
	c.master.Close()
	c.log.close()
}
