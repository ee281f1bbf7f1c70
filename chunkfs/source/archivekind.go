package source

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/windlass-hpc/windlass/internal/unpack"
)

// lookAhead is how many entries of a compressed archive are looked at to tell an image from a root file system.
const lookAhead = 16

// archiveOrImage tells a tar of a root file system from one of an image layout, and takes f over.
func archiveOrImage(ctx context.Context, f *os.File, o Options) (Source, error) {
	src, err := archiveKind(ctx, f, o)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return src, nil
}

func archiveKind(ctx context.Context, f *os.File, o Options) (Source, error) {
	looks, err := looksLikeImage(ctx, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if !looks {
		return tarFile(f, o)
	}
	name := f.Name()
	if f, err = plainFile(ctx, f); err != nil {
		return nil, err
	}
	b, err := indexTar(ctx, f)
	if err != nil {
		return nil, err
	}
	if b.has(layoutFile) && b.has(indexFile) || b.has(dockerManifest) {
		return newImage(name, b, o)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return tarFile(f, o)
}

// looksLikeImage says whether the first files of an archive have names as in an image layout. What cannot be read is left to who reads
// it all.
func looksLikeImage(ctx context.Context, f *os.File) (bool, error) {
	plain, err := decompress(io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return false, err
	}
	defer plain.Close()
	in := unpack.NewReader(ctx, plain, unpack.Options{})
	for range lookAhead {
		h, err := in.Next()
		if err != nil {
			return false, ctx.Err()
		}
		name, err := unpack.CleanName(h.Name)
		if err != nil || h.Typeflag != tar.TypeDir {
			return err == nil && imageName(name), nil
		}
	}
	return false, nil
}

func imageName(name string) bool {
	switch name {
	case layoutFile, indexFile, dockerManifest, "repositories":
		return true
	}
	first, _, nested := strings.Cut(name, "/")
	return nested && first == "blobs" || isHex(strings.TrimSuffix(first, ".json"))
}

// isHex says whether a name is a digest, as those of layers and configurations of docker are.
func isHex(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
