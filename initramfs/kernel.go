package initramfs

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Kernel is what the file of a kernel tells.
type Kernel struct {
	Release string      // such as 6.1.0-18-amd64
	Machine elf.Machine // EM_NONE when it does not say
	config  map[string]bool
}

// maxKernel bounds how much of a kernel is searched.
const maxKernel = 512 << 20

// ReadKernel finds out what kernel the file is: an x86 bzImage, an arm64 Image, packed by gzip or not, or an unpacked vmlinux. Its
// configuration is known when it lies beside it as config-RELEASE or config.
func ReadKernel(file string) (*Kernel, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable("the kernel", err)
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fault.New(fault.Corrupt, "read the kernel %s: %w", file, err)
	}
	k, err := identify(head[:n], io.MultiReader(bytes.NewReader(head[:n]), f))
	if err != nil {
		return nil, fault.Hintf(fault.New(fault.Invalid, "%s: %w", file, err), "name a bzImage, an arm64 Image or a vmlinux, or leave --kernel out")
	}
	k.readConfig(filepath.Join(filepath.Dir(file), "config-"+k.Release))
	return k, nil
}

func identify(head []byte, all io.Reader) (*Kernel, error) {
	switch {
	case len(head) > 0x210 && string(head[0x202:0x206]) == "HdrS":
		at := int(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
		if at == 0x200 || at >= len(head) {
			return nil, errors.New("this bzImage does not say its version")
		}
		return newKernel(head[at:], elf.EM_X86_64)
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(all)
		if err != nil {
			return nil, err
		}
		return search(z, elf.EM_AARCH64)
	case len(head) > 64 && string(head[56:60]) == "ARM\x64":
		return search(all, elf.EM_AARCH64)
	case len(head) > 20 && string(head[:4]) == "\x7fELF":
		return search(all, elf.Machine(binary.LittleEndian.Uint16(head[18:])))
	}
	return nil, errors.New("this is no kernel of a sort that is known here")
}

func newKernel(text []byte, machine elf.Machine) (*Kernel, error) {
	end := bytes.IndexAny(text, " \x00")
	if end <= 0 || end > 128 || bytes.ContainsAny(text[:end], "/\n") {
		return nil, errors.New("this kernel does not say its version")
	}
	return &Kernel{Release: string(text[:end]), Machine: machine}, nil
}

// search looks for the line that the kernel says of itself when it boots.
func search(r io.Reader, machine elf.Machine) (*Kernel, error) {
	mark := []byte("Linux version ")
	buf, have := make([]byte, 1<<20), 0
	for r = io.LimitReader(r, maxKernel); ; {
		n, err := io.ReadFull(r, buf[have:])
		text := buf[:have+n]
		for at := bytes.Index(text, mark); at >= 0 && len(text) > at+256; {
			text = text[at+len(mark):]
			if k, err := newKernel(text, machine); err == nil && k.Release[0] >= '0' && k.Release[0] <= '9' {
				return k, nil
			}
			at = bytes.Index(text, mark)
		}
		if err != nil {
			return nil, errors.New("this kernel does not say its version")
		}
		have = copy(buf, buf[len(buf)-512:])
	}
}

// readConfig reads which compressions of an initramfs the kernel was built with. Without the file that stays unknown.
func (k *Kernel) readConfig(file string) {
	text, err := os.ReadFile(file)
	if err != nil || k.config != nil {
		return
	}
	k.config = map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutSuffix(strings.TrimSpace(line), "=y"); ok {
			k.config[name] = true
		}
	}
}

// zstdSince is the version of Linux from which on it can unpack zstd.
const zstdSince = 509

// takes refuses a compression that the kernel cannot unpack. An unknown kernel takes all.
func (k *Kernel) takes(c Compression) error {
	option := map[Compression]string{Zstd: "CONFIG_RD_ZSTD", XZ: "CONFIG_RD_XZ", Gzip: "CONFIG_RD_GZIP"}[c]
	if k == nil || option == "" {
		return nil
	}
	if k.config != nil && !k.config[option] {
		return fault.Hintf(fault.New(fault.Unsupported, "kernel %s is built without %s, so it cannot unpack %s", k.Release, option, c),
			"compress otherwise: --compress gzip or xz")
	}
	if v := k.version(); k.config == nil && c == Zstd && v > 0 && v < zstdSince {
		return fault.Hintf(fault.New(fault.Unsupported, "kernel %s is older than Linux 5.9, so it cannot unpack zstd", k.Release),
			"compress otherwise: --compress xz or gzip (Enterprise Linux 8 is such a one)")
	}
	return nil
}

// version gives 509 for 5.9.x; 0 when it is not known.
func (k *Kernel) version() int {
	major, rest, _ := strings.Cut(k.Release, ".")
	minor, _, _ := strings.Cut(rest, ".")
	digits := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		minor = minor[:digits]
	}
	a, err := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if cmp.Or(err, err2) != nil {
		return 0
	}
	return a*100 + b
}
