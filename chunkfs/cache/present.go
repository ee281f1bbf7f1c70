package cache

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// present is the bitmap of the extents that are in the data file, kept in a file so that it outlives this process. It is a hint: a bit
// that is set too many makes an extent Suspect, one too few makes it fetched again. So it is never synced, and a failure to write a bit
// is no error. It is written with pwrite and not mapped: a full disk would end a process that writes to a mapping.
//
// The file: 8 bytes of magic, 8 bytes of the number of extents, and words of 64 bits, all little-endian.
type present struct {
	fresh bool // nothing was there, or nothing of use

	mu    sync.Mutex
	file  *os.File
	count int
	words []uint64
}

const presentMagic = "WLPRES1\n"

func openPresent(path string, count int) (*present, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	p := &present{file: f, count: count, words: make([]uint64, (count+63)/64)}
	p.fresh = !p.load()
	return p, nil
}

func (p *present) header() []byte {
	return binary.LittleEndian.AppendUint64([]byte(presentMagic), uint64(p.count))
}

func (p *present) load() bool {
	b := make([]byte, 16+8*len(p.words)+1)
	n, _ := p.file.ReadAt(b, 0)
	if n != len(b)-1 || string(b[:16]) != string(p.header()) {
		return false
	}
	for i := range p.words {
		p.words[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	return true
}

// reset writes the file anew, with no bit set, or all. Its room is taken now, so that later writes find it.
func (p *present) reset(all bool) error {
	b := append(p.header(), make([]byte, 8*len(p.words))...)
	for i := range p.words {
		p.words[i] = 0
		if all {
			p.words[i] = ^uint64(0)
		}
		binary.LittleEndian.PutUint64(b[16+8*i:], p.words[i])
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.WriteAt(b, 0)
	return err
}

func (p *present) has(i int) bool { return p.words[i/64]>>(i%64)&1 == 1 }

func (p *present) set(i int, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	word := &p.words[i/64]
	old := *word
	*word |= 1 << (i % 64)
	if !on {
		*word &^= 1 << (i % 64)
	}
	if *word != old {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], *word)
		_, _ = p.file.WriteAt(b[:], 16+8*int64(i/64))
	}
}

func (p *present) close() error {
	err := p.file.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
