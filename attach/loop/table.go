package loop

import (
	"bytes"
	"encoding/binary"
	"os"

	diskpart "github.com/diskfs/go-diskfs/partition"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	gptEntrySize  = 128  // the only size in use
	gptMaxEntries = 1024 // tables have 128 as a rule
)

// extent is a partition as the table has it, in bytes.
type extent struct {
	number        int
	start, length int64
}

// readTable reads the GPT or MBR of the open device, which has size bytes. Without a table it answers none. Logical partitions of an
// MBR are left out. Only the table is read, never what is in a partition.
func readTable(f *os.File, size int64) ([]extent, error) {
	table, err := diskpart.Read(guarded{f}, sector, sector)
	if err != nil {
		return nil, nil // go-diskfs does not tell no table from a broken one
	}
	var all []extent
	switch t := table.(type) {
	case *gpt.Table:
		for _, p := range t.Partitions {
			all = append(all, extent{p.GetIndex(), p.GetStart(), p.GetSize()})
		}
	case *mbr.Table:
		for _, p := range t.Partitions {
			switch p.Type {
			case mbr.Empty, mbr.ExtendedCHS, mbr.ExtendedLBA, mbr.LinuxExtended:
			case mbr.GPTProtective:
				return nil, fault.New(fault.Corrupt, "the partition table (GPT) is damaged")
			default:
				all = append(all, extent{p.GetIndex(), p.GetStart(), p.GetSize()})
			}
		}
	}
	for _, e := range all {
		if e.start <= 0 || e.length <= 0 || e.start > size || e.length > size-e.start {
			return nil, fault.New(fault.Corrupt, "partition %d of the table is not within the %d bytes of the image", e.number, size)
		}
	}
	return all, nil
}

// guarded is a file that does not let the library see a GPT header with sizes that nobody uses: it would allocate what the header says.
// It looks at the very bytes that the library gets, since whoever owns the image may change them at any time.
type guarded struct{ *os.File }

func (g guarded) ReadAt(b []byte, off int64) (int, error) {
	n, err := g.File.ReadAt(b, off)
	for at := 0; at+92 <= n; at += sector {
		header := b[at:]
		if !bytes.HasPrefix(header, []byte("EFI PART")) {
			continue
		}
		entries, entrySize := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
		if entries > gptMaxEntries || entrySize != gptEntrySize {
			return 0, fault.New(fault.Corrupt, "a GPT of %d entries with %d bytes each is not believable", entries, entrySize)
		}
	}
	return n, err
}
