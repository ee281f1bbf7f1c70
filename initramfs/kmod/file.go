package kmod

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	maxModule = 512 << 20 // bytes of a module, unpacked; with all that a debugger wants they reach 100 MB
	maxWindow = 128 << 20 // bytes that a decompressor may keep
)

// moduleName gives the plain name of a module's file, compressed or not, "" for another file.
func moduleName(file string) string {
	base := path.Base(file)
	for _, end := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if name, ok := strings.CutSuffix(base, end); ok && name != "" && !strings.ContainsAny(name, " \t\n") {
			return Plain(name)
		}
	}
	return ""
}

// readInfo reads what the module in the file says of itself.
func readInfo(file string) (Info, error) {
	info, err := func() (Info, error) {
		f, err := os.Open(file)
		if err != nil {
			return Info{}, err
		}
		defer f.Close()
		var r io.ReaderAt = f
		if !strings.HasSuffix(file, ".ko") {
			data, err := unpack(f, path.Ext(file))
			if err != nil {
				return Info{}, err
			}
			r = bytes.NewReader(data)
		}
		text, err := section(r, ".modinfo")
		return parseInfo(text), err
	}()
	if err != nil {
		return info, fmt.Errorf("module %s: %w", file, err)
	}
	return info, nil
}

// ReadPlain reads a file of modules or firmware, unpacked when its name ends in .xz, .zst or .gz.
func ReadPlain(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := unpack(f, path.Ext(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return data, nil
}

// unpack reads all of r, decompressed as the ending says. What cannot be decompressed is of kind Corrupt.
func unpack(r io.Reader, ending string) ([]byte, error) {
	plain := r
	var err error
	switch ending {
	case ".xz":
		plain, err = xz.NewReader(r, maxWindow)
	case ".gz":
		plain, err = gzip.NewReader(r)
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			defer d.Close()
			plain = d
		}
	}
	if err != nil {
		return nil, fault.New(fault.Corrupt, "decompress: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(plain, maxModule+1))
	switch {
	case err != nil && plain != r:
		return nil, fault.New(fault.Corrupt, "decompress: %w", err)
	case err != nil:
		return nil, err
	case len(data) > maxModule:
		return nil, fault.New(fault.TooLarge, "more than %d bytes: no module is as large", maxModule)
	}
	return data, nil
}
