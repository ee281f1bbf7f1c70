package serve

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// journal is memory into which the kernel's requests are read, and in which they stay until they are answered. The keeper holds it, so the
// next server finds what the last one had read and not answered: nothing else is needed to lose no request, with any kernel.
//
// It is present and locked, because the kernel takes a request out of its queue before it copies it: a process that is killed while a
// page for it is missing would turn the request into an EIO.
type journal struct {
	file *os.File // a memfd
	mem  []byte
	free chan int
}

const (
	slotSize = 512 // the longest request that is answered is a lookup: 40 bytes and a name of 255
	// restSize is how much more a reader must have room for, or the kernel gives it nothing. What is longer than a slot is never answered
	// (many FORGETs in one), so all readers share the room.
	restSize = 8192
)

// newJournal makes a journal of slots; each is a request under way.
func newJournal(slots int) (*journal, error) {
	fd, err := unix.MemfdCreate("chunkfs journal", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a journal: %w", err)
	}
	f := os.NewFile(uintptr(fd), "journal")
	if err := f.Truncate(int64(slots*slotSize + restSize)); err != nil {
		f.Close()
		return nil, fmt.Errorf("make a journal: %w", err)
	}
	return openJournal(f)
}

// openJournal maps a journal; f becomes the journal's, also on error.
func openJournal(f *os.File) (*journal, error) {
	info, err := f.Stat()
	var mem []byte
	if err == nil {
		mem, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("map a journal: %w", err)
	}
	_ = unix.Mlock(mem) // there may be no swap to fear
	j := &journal{file: f, mem: mem}
	slots := (len(mem) - restSize) / slotSize
	j.free = make(chan int, slots)
	for i := range slots {
		// Written to, so that the kernel need not ask for leave to write. The value is what it was.
		atomic.AddUint32(j.length(i), 0)
		if *j.length(i) == 0 {
			j.free <- i
		}
	}
	return j, nil
}

// length is the first field of a request; 0 while the slot is free.
func (j *journal) length(i int) *uint32 { return (*uint32)(unsafe.Pointer(&j.mem[i*slotSize])) }

func (j *journal) slot(i int) []byte { return j.mem[i*slotSize:][:slotSize:slotSize] }
func (j *journal) rest() []byte      { return j.mem[len(j.mem)-restSize:] }

// take waits for a free slot.
func (j *journal) take() int { return <-j.free }

// done frees a slot whose request is answered, or was none.
func (j *journal) done(i int) {
	atomic.StoreUint32(j.length(i), 0)
	j.free <- i
}

// left lists the slots with requests that the last server left.
func (j *journal) left() []int {
	var left []int
	for i := range cap(j.free) {
		if *j.length(i) != 0 {
			left = append(left, i)
		}
	}
	return left
}

func (j *journal) close() {
	_ = unix.Munmap(j.mem)
	j.file.Close()
}
