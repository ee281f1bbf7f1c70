package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// What is agreed with the kernel about every connection.
const (
	maxRead    = 1 << 20 // bytes of one read request
	background = 192     // requests of read-ahead at once
	// writeLimit is the largest write that the kernel may send; there are none, but it wants buffers that would take one.
	writeLimit = 4096
	readAhead  = 1024 // KiB, of buffered readers
)

// conn is a FUSE connection: a mount of ours, and the file system behind it. go-fuse speaks the protocol; requests are read and reads are
// answered here, so that nothing is lost when the process dies: see journal.
type conn struct {
	name string // in the keeper
	full bool   // it shows an image: directories are read with the attributes of what is in them, reads want a buffer
	fs   fuse.RawFileSystem

	fd      int // the connection
	journal *journal
	init    []byte // the kernel's INIT, as it came: it comes once in the life of a connection
	proto   *fuse.ProtocolServer

	small sync.Pool // of *[]byte, spliceFrom long
	large sync.Pool // maxRead long
	pipes pipes

	mu        sync.Mutex
	readers   int                 // goroutines that wait for requests
	reads     map[uint64]*reading // read requests under way
	abandoned map[uint64]bool     // nodes whose reads are given up
	loops     sync.WaitGroup
	ended     chan struct{} // closed when the kernel has ended the connection and nothing of it is served any more
}

func newConn(name string, fs fuse.RawFileSystem, full bool) *conn {
	return &conn{name: name, full: full, fs: fs, fd: -1, reads: map[uint64]*reading{}, abandoned: map[uint64]bool{}, ended: make(chan struct{})}
}

// open makes the file system and agrees with the kernel; nothing is served yet, and nobody sees the mount before it is moved. Closing mnt
// undoes it. keep stores descriptors before there is anything to lose. After an error the conn is closed.
func (c *conn) open(ctx context.Context, slots int, attrs uint64, keep func(name string, fd int) error) (mnt *os.File, err error) {
	defer func() {
		if err != nil && mnt != nil {
			mnt.Close()
		}
		if err != nil {
			c.close()
		}
	}()
	if c.fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, fault.Hintf(fault.New(fault.Unsupported, "open /dev/fuse: %w", err), "load the module fuse (modprobe fuse)")
	}
	if c.journal, err = newJournal(slots); err != nil {
		return nil, err
	}
	if err = errors.Join(keep(c.name, c.fd), keep(journalName(c.name), int(c.journal.file.Fd()))); err != nil {
		return nil, err
	}
	if mnt, err = fsmount.Create(ctx, "fuse", fuseOptions(c.fd), unix.MOUNT_ATTR_RDONLY|attrs); err != nil {
		return nil, err
	}
	if c.init, err = readInit(c.fd); err != nil {
		return mnt, err
	}
	answer, err := c.agree()
	if err != nil {
		return mnt, err
	}
	if _, err = unix.Write(c.fd, answer); err != nil {
		return mnt, fmt.Errorf("answer the kernel's INIT: %w", err)
	}
	return mnt, nil
}

// journalName is what the journal of a connection is called in the keeper.
func journalName(conn string) string { return conn + ".journal" }

func fuseOptions(fd int) []fsmount.Option {
	return []fsmount.Option{
		{Key: "source", Value: "windlass-chunkfs"}, {Key: "subtype", Value: "chunkfs"}, {Key: "fd", Value: strconv.Itoa(fd)},
		{Key: "rootmode", Value: "40000"}, {Key: "user_id", Value: "0"}, {Key: "group_id", Value: "0"},
		{Key: "allow_other", Flag: true}, {Key: "default_permissions", Flag: true}, {Key: "max_read", Value: strconv.Itoa(maxRead)},
	}
}

// takeOver goes on with a connection whose process died; fd and journal stay the caller's. An error of kind NotFound: the kernel has ended
// the connection. After an error the conn is closed.
func (c *conn) takeOver(fd, journal *os.File, init []byte) (err error) {
	defer func() {
		if err != nil {
			c.close()
			err = fmt.Errorf("take over the FUSE connection %s: %w", c.name, err)
		}
	}()
	if c.fd, err = unix.FcntlInt(fd.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return err
	}
	if err := alive(c.fd); err != nil {
		return err
	}
	dup, err := unix.FcntlInt(journal.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if c.journal, err = openJournal(os.NewFile(uintptr(dup), "journal")); err != nil {
		return err
	}
	c.init = init
	_, err = c.agree() // go-fuse again, as it did with the kernel
	return err
}

func alive(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if fds[0].Revents&(unix.POLLERR|unix.POLLNVAL) != 0 {
		return fault.New(fault.NotFound, "the kernel has ended it")
	}
	return nil
}

func readInit(fd int) ([]byte, error) {
	b := make([]byte, restSize)
	n, err := unix.Read(fd, b)
	for err == unix.EINTR {
		n, err = unix.Read(fd, b)
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's INIT: %w", err)
	}
	return b[:n], nil
}

// agree has go-fuse answer INIT.
func (c *conn) agree() ([]byte, error) {
	if fs, ok := c.fs.(interface{ Kernel(flags uint64) }); ok {
		fs.Kernel(kernelFlags(c.init))
	}
	c.proto = fuse.NewProtocolServer(c.fs, c.options())
	answer := make([]byte, 4096)
	n, st := c.proto.HandleRequest([][]byte{c.init}, [][]byte{answer})
	if !st.Ok() || n < outHeader {
		return nil, fault.New(fault.Unsupported, "the kernel's INIT is not understood: %v", st)
	}
	if errno := int32(binary.NativeEndian.Uint32(answer[4:])); errno != 0 {
		return nil, fault.New(fault.Unsupported, "agree with the kernel on FUSE: %w", unix.Errno(-errno))
	}
	return widen(answer[:n]), nil
}

// kernelFlags are what the kernel can do, by its INIT.
func kernelFlags(init []byte) uint64 {
	in := make([]byte, unsafe.Sizeof(fuse.InitIn{}))
	copy(in, init)
	return (*fuse.InitIn)(unsafe.Pointer(&in[0])).Flags64()
}

// widen lets the kernel read more in one request than go-fuse, which takes the largest write for it, would say.
func widen(answer []byte) []byte {
	const maxPages = outHeader + 28 // in fuse_init_out since protocol 7.28
	if len(answer) >= maxPages+2 {
		binary.NativeEndian.PutUint16(answer[maxPages:], uint16(maxRead/os.Getpagesize()))
	}
	return answer
}

func (c *conn) options() *fuse.MountOptions {
	extra := uint64(fuse.CAP_NO_OPENDIR_SUPPORT)
	if !c.full {
		// EROFS reads device files directly and several pieces at once. Of a file system the reader is a process, which could not be killed
		// while it waits for such reads.
		extra |= fuse.CAP_ASYNC_DIO
	}
	return &fuse.MountOptions{
		Name: "chunkfs", FsName: "windlass-chunkfs", MaxWrite: writeLimit, MaxBackground: background,
		DisableReadDirPlus: !c.full, EnableAcl: c.full, EnableSymlinkCaching: true,
		IDMappedMount:        c.full, // containers with user namespaces; the kernel checks permissions
		ExtraCapabilities:    extra,
		DisabledCapabilities: fuse.CAP_AUTO_INVAL_DATA | fuse.CAP_PASSTHROUGH,
		Logger:               log.New(io.Discard, "", 0),
	}
}

// close gives up the connection, which is not served any more. Where the kernel has not ended it and the keeper holds nothing, a mount that
// is still there has lost its server.
func (c *conn) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
	if c.journal != nil {
		c.journal.close()
		c.journal = nil
	}
	c.pipes.close()
}

// speedUp sets the read-ahead of buffered readers, which is 128 KiB otherwise. A mount goes without when it cannot be set.
func speedUp(mnt *os.File) {
	var st unix.Statx_t
	if unix.Statx(int(mnt.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st) != nil {
		return
	}
	bdi := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", st.Dev_major, st.Dev_minor)
	_ = os.WriteFile(bdi, []byte(strconv.Itoa(readAhead)), 0)
}
