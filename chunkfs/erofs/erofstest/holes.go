package erofstest

import "github.com/windlass-hpc/windlass/chunkfs/erofs"

// roundOut gives the runs of a file that lie on the device when data has what is not zero: whole blocks, or larger units where a file has
// more of those than can be mapped. What touches is one run.
func roundOut(size int64, data []erofs.Extent) []erofs.Extent {
	unit := int64(erofs.BlockSize)
	for (size-1)/unit >= erofs.MaxChunks {
		unit *= 2
	}
	var runs []erofs.Extent
	for _, d := range data {
		start, end := d.Offset&^(unit-1), min((d.Offset+d.Size+unit-1)&^(unit-1), size)
		if n := len(runs); n > 0 && runs[n-1].Offset+runs[n-1].Size >= start {
			runs[n-1].Size = end - runs[n-1].Offset
			continue
		}
		runs = append(runs, erofs.Extent{Offset: start, Size: end - start})
	}
	return runs
}
