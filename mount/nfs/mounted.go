package nfs

import (
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// at tells what is mounted at dir, uppermost when several are; nil when nothing is. It never asks a file system, as even a look at the
// mountpoint might.
func at(dir string) (*mountinfo.Info, error) {
	infos, err := mountinfo.Below(dir)
	if err != nil {
		return nil, err
	}
	infos = slices.DeleteFunc(infos, func(i *mountinfo.Info) bool { return i.Mountpoint != dir })
	for _, i := range infos {
		covered := slices.ContainsFunc(infos, func(o *mountinfo.Info) bool { return o.Parent == i.ID && o.ID != i.ID })
		if !covered {
			return i, nil
		}
	}
	return nil, nil
}

func isNFS(i *mountinfo.Info) bool { return i.FSType == "nfs" || i.FSType == "nfs4" }

// isSoft says whether calls fail when the server is silent, rather than wait.
func isSoft(i *mountinfo.Info) bool {
	words := strings.Split(i.VFSOptions, ",")
	return slices.Contains(words, "soft") || slices.Contains(words, "softerr")
}

// addressOf is the address of the server that the kernel speaks with.
func addressOf(i *mountinfo.Info) string {
	for word := range strings.SplitSeq(i.VFSOptions, ",") {
		if addr, ok := strings.CutPrefix(word, "addr="); ok {
			return addr
		}
	}
	return ""
}
