package overlay

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// settings are the features of overlayfs that images and earlier lives of an upper must not decide about.
func settings() []fsmount.Option {
	return []fsmount.Option{
		// With an index an upper is tied to the very lower that it was first used with, and a new version of the image is refused.
		{Key: "index", Value: "off"},
		// Lower layers are hostile; these would let one show files of another one under other names and modes
		// (Documentation/filesystems/overlayfs.rst, "Metadata only copy up").
		{Key: "metacopy", Value: "off"},
		{Key: "redirect_dir", Value: "nofollow"},
	}
}

// takesFiles says whether this kernel takes layers as open files (Linux 6.13). Then neither a character in a path nor its length nor a
// link put in its place matters.
func (d *Driver) takesFiles(layer *os.File) (bool, error) {
	if d.legacy {
		return false, nil
	}
	return fsmount.Takes("overlay", fsmount.Option{Key: "lowerdir+", File: layer})
}

// options are the layers as open files.
func (s *stack) options() []fsmount.Option {
	opts := []fsmount.Option{{Key: "source", Value: "overlay"}}
	for _, l := range s.lower {
		opts = append(opts, fsmount.Option{Key: "lowerdir+", File: l})
	}
	if s.upper != nil {
		opts = append(opts, fsmount.Option{Key: "upperdir", File: s.upper}, fsmount.Option{Key: "workdir", File: s.work})
	} else {
		opts = append(opts, fsmount.Option{Key: "ro", Flag: true})
	}
	return append(opts, settings()...)
}

func (s *stack) attrs() uint64 {
	if s.upper == nil {
		return unix.MOUNT_ATTR_RDONLY
	}
	return 0
}

// data are the layers as a text of mount(2), for older kernels.
func (s *stack) data() (string, uintptr) {
	var lower []string
	for _, l := range s.lower {
		path := escape(l.Name(), ":")
		if s.ids != nil { // they cover each other, so no other path leads to them
			path = "/proc/self/fd/" + strconv.Itoa(int(l.Fd()))
		}
		lower = append(lower, path)
	}
	words, flags := []string{"lowerdir=" + strings.Join(lower, ":")}, uintptr(unix.MS_RDONLY)
	if s.upper != nil {
		words, flags = append(words, "upperdir="+escape(s.upper.Name(), ""), "workdir="+escape(s.work.Name(), "")), 0
	}
	for _, o := range settings() {
		words = append(words, o.String())
	}
	return strings.Join(words, ","), flags
}

// escape puts a backslash before what overlayfs would take for an end: backslash and comma, and in a list the colon.
func escape(path, more string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c == '\\' || c == ',' || strings.IndexByte(more, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// unescape takes the backslashes away.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unoctal reads what mountinfo writes as \054, three octal digits.
func unoctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return false
		}
	}
	return s[0] <= '3'
}
