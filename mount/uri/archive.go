package uri

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// unpackArchive unpacks an archive while it comes into a tmpfs that is mounted nowhere, and gives that when the digest was right. An
// error leaves nothing: the tmpfs goes with its descriptor.
func unpackArchive(ctx context.Context, p plan, f *file) (*os.File, error) {
	mnt, err := fsmount.Create(ctx, "tmpfs", []fsmount.Option{
		{Key: "source", Value: "windlass"}, {Key: "mode", Value: "0755"},
		{Key: "size", Value: strconv.FormatInt(p.size, 10)}, {Key: "nr_inodes", Value: strconv.FormatInt(inodes(p.size), 10)},
	}, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	err = step.Do(ctx, "uri.unpack", func(ctx context.Context) error {
		return f.report.during(ctx, func() error {
			if err := f.body.SetLimit(workLimit(p.size)); err != nil {
				return tooLarge(err, p)
			}
			err := unpackInto(ctx, mnt, f, workLimit(p.size))
			if berr := f.body.Err(); berr != nil {
				err = berr // what happened first; all else is its consequence
			}
			if err == nil || (p.digest != "" && fault.Is(err, fault.Corrupt)) {
				// Of a damaged archive, that it is not the one that was asked for says more than where it is damaged.
				if verr := f.body.Verify(p.digest); verr != nil {
					err = verr
				}
			}
			return archiveError(err, p, mnt)
		})
	})
	if err != nil {
		mnt.Close()
		return nil, err
	}
	return mnt, nil
}

// unpackInto has ended all reading of f when it returns.
func unpackInto(ctx context.Context, mnt *os.File, f *file, limit int64) error {
	r, err := unpack.Decompress(f.format.codec, f.reader)
	if err != nil {
		return err
	}
	defer r.Close()
	archive := bufio.NewReaderSize(r, 256<<10)
	if err := lookInside(f.format, archive); err != nil {
		return err
	}
	_, err = unpack.Tar(ctx, mnt, archive, unpack.Options{Limit: limit})
	return err
}

// lookInside finds an image, or something else that is no archive, behind the compression.
func lookInside(found format, archive *bufio.Reader) error {
	if found.codec == unpack.Plain {
		return nil
	}
	head, err := archive.Peek(1 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil //nolint:nilerr // it comes again when the archive is read, and is told with the place
	}
	if inner, ok := detect(head); ok && inner == (format{}) {
		return nil
	}
	if looks := looksLike(head); looks != "" {
		return fault.Hintf(fault.New(fault.Corrupt, "it is compressed with %s, and what is inside is not a tar archive but looks like %s", found.codec, looks),
			"publish an image as it is: squashfs and erofs compress by themselves")
	}
	return nil
}
