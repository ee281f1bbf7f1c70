package erofs

import (
	"encoding/binary"
	"iter"
	"strings"
)

// names gives what a directory lists, in order of bytes: its entries, and between them . (the Node is nil) and .. (likewise).
func names(n *Node) iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) {
		dots := []string{".", ".."}
		for _, e := range n.Entries {
			for len(dots) > 0 && dots[0] < e.Name {
				if !yield(dots[0], nil) {
					return
				}
				dots = dots[1:]
			}
			if !yield(e.Name, e.Node) {
				return
			}
		}
		for _, d := range dots {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// dirSize is how long a directory is: its blocks hold as many names as fit, and the last one ends with its names.
func dirSize(n *Node) int64 {
	full, used := int64(0), int64(0)
	for name := range names(n) {
		need := int64(direntSize + len(name))
		if used+need > BlockSize {
			full, used = full+BlockSize, 0
		}
		used += need
	}
	return full + used
}

// dirent is one name of a block that is being filled.
type dirent struct {
	name string
	nid  uint64
	typ  byte
}

// appendDirents encodes one block, unpadded.
func appendDirents(b []byte, list []dirent) []byte {
	at := direntSize * len(list)
	for _, d := range list {
		b = binary.LittleEndian.AppendUint64(b, d.nid)
		b = binary.LittleEndian.AppendUint16(b, uint16(at))
		b = append(b, d.typ, 0)
		at += len(d.name)
	}
	for _, d := range list {
		b = append(b, d.name...)
	}
	return b
}

// goodName reports whether Linux lets a name stand in a directory.
func goodName(name string) bool {
	return name != "" && len(name) <= maxName && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
