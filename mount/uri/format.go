package uri

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unpack"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// headSize is how much of a file is looked at to tell what it is: as far as the mark of an ISO image lies in.
const headSize = 33 << 10

// format is what is done with a file.
type format struct {
	fsType string // mounted as this; "" for an archive
	codec  unpack.Codec
}

// chooseFormat decides what the file that begins with head is, and holds it against what was asked for. The error is of kind Corrupt and
// says what the file looks like.
func chooseFormat(asked string, head []byte) (format, error) {
	found, ok := detect(head)
	switch {
	case asked == "" || asked == models.MountURIFormatAuto:
		if ok {
			return found, nil
		}
		return format{}, notA("an image or archive that is known (squashfs, erofs, tar)", head)
	case asked == models.MountURIFormatTar:
		if ok && found.fsType == "" {
			return found, nil
		}
		if looksLike(head) == "" && len(head) >= 512 { // tar had no mark before 1988
			return format{}, nil
		}
		return format{}, notA("a tar archive", head)
	case ok && found.fsType == asked:
		return found, nil
	}
	return format{}, notA(format{fsType: asked}.String(), head)
}

func notA(what string, head []byte) error {
	looks := looksLike(head)
	if looks == "" {
		looks = fmt.Sprintf("it begins with %s", shownBytes(head))
	} else {
		looks = "it looks like " + looks
	}
	return fault.Hintf(fault.New(fault.Corrupt, "it is not %s: %s", what, looks), "check the address; a web server may give a page in place of the file")
}

// detect tells images and archives by their marks.
func detect(head []byte) (format, bool) {
	switch {
	case has(head, 0, "hsqs"):
		return format{fsType: "squashfs"}, true
	case has(head, 1024, "\xe2\xe1\xf5\xe0"):
		return format{fsType: "erofs"}, true
	case has(head, 0, "\x1f\x8b\x08"):
		return format{codec: unpack.Gzip}, true
	case isZstd(head):
		return format{codec: unpack.Zstd}, true
	case has(head, 0, "\xfd7zXZ\x00"):
		return format{codec: unpack.Xz}, true
	case has(head, 257, "ustar"):
		return format{}, true
	}
	return format{}, false
}

// isZstd knows the frame and, as pzstd and zstd:chunked write them first, the skippable frame.
func isZstd(head []byte) bool {
	return has(head, 0, "\x28\xb5\x2f\xfd") || (len(head) >= 4 && binary.LittleEndian.Uint32(head)&^0xf == 0x184d2a50)
}

func has(head []byte, at int, mark string) bool {
	return len(head) >= at+len(mark) && string(head[at:at+len(mark)]) == mark
}

// looksLike names what people give by mistake, and what we take; "" when it is nothing that is known.
func looksLike(head []byte) string {
	if len(head) == 0 {
		return "an empty file"
	}
	if f, ok := detect(head); ok {
		return f.String()
	}
	for _, m := range []struct {
		at         int
		mark, name string
	}{
		{32769, "CD001", "an ISO 9660 image"}, {1080, "\x53\xef", "an ext2, ext3 or ext4 image"}, {0, "XFSB", "an xfs image"},
		{0, "\x7fELF", "an ELF program"}, {0, "QFI\xfb", "a qcow2 disk image"}, {0, "sqsh", "a big-endian squashfs image of version 3"},
		{0, "BZh", "a bzip2 file"}, {0, "PK\x03\x04", "a zip archive"}, {0, "!<arch>\n", "an ar archive, such as a .deb"},
		{0, "070701", "a cpio archive"}, {0, "\xed\xab\xee\xdb", "an RPM package"}, {0, "#!", "a script"},
		{512, "EFI PART", "a disk image with a partition table (GPT)"}, {510, "\x55\xaa", "a disk image with a boot sector"},
	} {
		if has(head, m.at, m.mark) {
			return m.name
		}
	}
	return textLike(head)
}

// textLike names text of a sort that servers send in place of a file, with its beginning.
func textLike(head []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	lower := strings.ToLower(string(text[:min(64, len(text))]))
	switch {
	case strings.HasPrefix(lower, "<!doctype html"), strings.HasPrefix(lower, "<html"), strings.HasPrefix(lower, "<head"):
		return "an HTML page, begins with " + shownBytes(text)
	case strings.HasPrefix(lower, "<?xml"):
		return "an XML document, begins with " + shownBytes(text)
	case strings.HasPrefix(lower, "version https://git-lfs"):
		return "a Git LFS pointer, not the file itself"
	case strings.HasPrefix(lower, "{"), strings.HasPrefix(lower, "["):
		return "a JSON document, begins with " + shownBytes(text)
	case len(bytes.Trim(head, "\x00")) == 0:
		return "nothing but zeros"
	}
	return ""
}

// shownBytes quotes the beginning of what came from a server.
func shownBytes(b []byte) string {
	b = b[:min(40, len(b))]
	for len(b) > 0 && !utf8.Valid(b) && utf8.Valid(b[:len(b)-1]) {
		b = b[:len(b)-1]
	}
	return fmt.Sprintf("%q", b)
}

func (f format) String() string {
	switch {
	case f.fsType == "erofs":
		return "an erofs image"
	case f.fsType != "":
		return "a " + f.fsType + " image"
	case f.codec == unpack.Plain:
		return "a tar archive"
	}
	return "a file compressed with " + string(f.codec)
}
