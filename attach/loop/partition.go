package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/blockdev"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/step"
)

// takePartition finds partition n of the whole device, open as f, on the file at path; n 0 is the whole itself.
//
// The kernel has read the table when the device was configured. Where it found nothing, it may be one that cannot read such tables: then
// the table is read here and the kernel is told.
func takePartition(ctx context.Context, whole attach.Device, path string, f *os.File, n int) (attach.Device, error) {
	all, err := blockdev.Partitions(whole.DevNum)
	if err == nil && len(all) == 0 {
		err = addPartitions(ctx, f)
	}
	if err != nil {
		return attach.Device{}, fmt.Errorf("read the partitions of %s: %w", path, err)
	}
	if n == 0 {
		return whole, nil
	}
	part, ok, err := blockdev.Partition(whole.DevNum, n)
	if err != nil {
		return attach.Device{}, err
	}
	if !ok {
		return attach.Device{}, blockdev.NoPartition("loopback.partition: "+path, whole.DevNum, n)
	}
	dev := partOf(whole, part)
	if err := loopdev.MakeNode(ctx, dev.Path, dev.DevNum); err != nil {
		return attach.Device{}, err
	}
	return dev, nil
}

// addPartitions tells the kernel of the partitions in the table. They go with the device.
func addPartitions(ctx context.Context, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("find the size of %s: %w", f.Name(), err)
	}
	all, err := readTable(f, size)
	if err != nil || len(all) == 0 {
		return err
	}
	return step.Do(ctx, "loopback.partitions", func(context.Context) error {
		for _, e := range all {
			// EBUSY: the kernel has it already.
			if err := addPartition(f, e); err != nil && !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("add partition %d: %w", e.number, err)
			}
		}
		return nil
	})
}

func addPartition(f *os.File, e extent) error {
	part := unix.BlkpgPartition{Start: e.start, Length: e.length, Pno: int32(e.number)}
	arg := unix.BlkpgIoctlArg{
		Op: unix.BLKPG_ADD_PARTITION, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part)),
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return os.NewSyscallError("BLKPG", errno)
	}
	return nil
}
