package source

import (
	"archive/tar"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// What PAX records hold extended attributes: as star, GNU tar and most others write them, and as bsdtar does, encoded.
const (
	paxXattr      = "SCHILY.xattr."
	paxLibarchive = "LIBARCHIVE.xattr."
	paxACL        = "SCHILY.acl.access"
	paxACLDefault = "SCHILY.acl.default"
	paxSELinux    = "RHT.security.selinux"
)

// kindOf gives the type of an entry in terms of st_mode, 0 for a hard link.
func kindOf(h *tar.Header) (uint32, error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return unix.S_IFREG, nil
	case tar.TypeDir:
		return unix.S_IFDIR, nil
	case tar.TypeSymlink:
		return unix.S_IFLNK, nil
	case tar.TypeChar:
		return unix.S_IFCHR, nil
	case tar.TypeBlock:
		return unix.S_IFBLK, nil
	case tar.TypeFifo:
		return unix.S_IFIFO, nil
	case tar.TypeLink:
		return 0, nil
	}
	return 0, damaged("it is of type %q, which is not known", h.Typeflag)
}

// headerNode makes a node of the header of an entry that is no hard link.
func headerNode(h *tar.Header, kind uint32, path string, skip func(path, what string)) (*erofs.Node, error) {
	n := &erofs.Node{Mode: kind | uint32(h.Mode)&0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: time.Unix(0, 0)}
	if !h.ModTime.IsZero() {
		n.ModTime = h.ModTime
	}
	switch kind {
	case unix.S_IFREG:
		n.Size = h.Size
	case unix.S_IFLNK:
		if h.Linkname == "" || len(h.Linkname) >= maxPath || strings.IndexByte(h.Linkname, 0) >= 0 {
			return nil, damaged("it is a symbolic link to %d bytes; 1 to %d are possible, none of them NUL", len(h.Linkname), maxPath-1)
		}
		n.Target, n.Mode = h.Linkname, kind|0o777 // Linux gives links no other
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	var err error
	n.Xattrs, err = headerXattrs(h, path, skip)
	return n, err
}

// headerXattrs gives the attributes that the PAX records hold. Where one is there in several ways, the plain one counts.
func headerXattrs(h *tar.Header, path string, skip func(path, what string)) ([]erofs.Xattr, error) {
	a := attributes{path: path, skip: skip}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			a.add(name, []byte(value))
		}
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxLibarchive); ok {
			if err := addEncoded(&a, name, value); err != nil {
				return nil, err
			}
		}
	}
	if label := h.PAXRecords[paxSELinux]; label != "" {
		a.add("security.selinux", append([]byte(strings.TrimRight(label, "\x00")), 0)) // the kernel shows it with its NUL
	}
	for key, name := range map[string]string{paxACL: "system.posix_acl_access", paxACLDefault: "system.posix_acl_default"} {
		if text := h.PAXRecords[key]; text != "" {
			value, err := parseACL(text)
			if err != nil {
				return nil, err
			}
			if value != nil {
				a.add(name, value)
			}
		}
	}
	return a.sorted(), nil
}

// addEncoded takes a record of bsdtar: the name as in a URL, the value in base64, most often without padding.
func addEncoded(a *attributes, name, value string) error {
	plain, err := url.PathUnescape(name)
	if err != nil {
		return damaged("its extended attribute %q is not encoded as bsdtar does it: %w", clip(name), err)
	}
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return damaged("its extended attribute %q is not base64: %w", clip(plain), err)
	}
	a.add(plain, b)
	return nil
}

// entryPath gives the path of an entry, checked with what else no system has.
func entryPath(h *tar.Header) (string, error) {
	path, err := unpack.CleanName(h.Name)
	if err != nil {
		return "", err
	}
	if err := checkPath(path); err != nil {
		return "", err
	}
	if path == "." && h.Typeflag != tar.TypeDir {
		return "", damaged("it has no name")
	}
	return path, unpack.CheckEntry(h)
}

// weight is what a header takes of memory.
func weight(h *tar.Header) (n int) {
	n = len(h.Name) + len(h.Linkname)
	for key, value := range h.PAXRecords {
		n += len(key) + len(value)
	}
	return n
}
