package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/internal/loopdev"
)

// mountErofs mounts what was opened as the driver does, detached: from the files, or from loop devices where the kernel mounts no files.
func mountErofs(t *testing.T, opened control.Opened) *os.File {
	t.Helper()
	options := []fsmount.Option{{Key: "ro", Flag: true}}
	directIO := fsmount.Option{Key: "directio", Flag: true}
	if takes, err := fsmount.Takes("erofs", directIO); err != nil {
		t.Fatal(err)
	} else if takes {
		options = append(options, directIO)
	}
	mnt, err := createErofs(t, options, opened.Metadata, opened.Device)
	if errors.Is(err, unix.ENOTBLK) {
		metadata, device := attachLoop(t, opened.Metadata), attachLoop(t, opened.Device)
		defer metadata.Close() // the mount holds them by then
		defer device.Close()
		mnt, err = createErofs(t, options, metadata.Name(), device.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	return mnt
}

func createErofs(t *testing.T, options []fsmount.Option, metadata, device string) (*os.File, error) {
	options = append([]fsmount.Option{{Key: "source", Value: metadata}, {Key: "device", Value: device}}, options...)
	return fsmount.Create(t.Context(), "erofs", options, unix.MOUNT_ATTR_RDONLY)
}

// attachLoop makes a read-only loop device of a file. It goes when nobody has it open or mounted.
func attachLoop(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	_, f, err := loopdev.Attach(t.Context(), loopdev.Options{File: file, Name: "windlass-servetest", ReadOnly: true, Autoclear: true, DirectIO: true})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOtherIDs shows images with the ids of a user namespace, as an overlay of a container has its layers.
func TestOtherIDs(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []control.Mode{control.Lazy, control.FUSE} {
		t.Run(string(mode), func(t *testing.T) {
			o := w.ask(string(mode), mode)
			w.mount(o)
			err := w.shownAs(t, o.Target, idmap.Range{First: 700_000, Size: 1 << 16})
			if mode == control.FUSE && errors.Is(err, unix.EINVAL) && !w.kernelMaps(t, o.ID) {
				return // before Linux 6.12 the kernel refuses
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// kernelMaps reports whether the kernel offers to show a FUSE file system with other ids.
func (w *world) kernelMaps(t *testing.T, id string) bool {
	t.Helper()
	b, err := os.ReadFile(w.place.Mount(id))
	r := new(record)
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return kernelFlags(r.Init)&fuse.CAP_ALLOW_IDMAP != 0
}

// shownAs looks at a file, which is root's, through a copy of the mount.
func (w *world) shownAs(t *testing.T, dir string, ids idmap.Range) error {
	t.Helper()
	users, err := idmap.Namespace(t.Context(), ids)
	if err != nil {
		return err
	}
	defer users.Close()
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	mnt, err := fsmount.CloneTree(t.Context(), root, false)
	if err != nil {
		return err
	}
	defer mnt.Close()
	if err := fsmount.SetAttr(t.Context(), mnt, fsmount.Attr{Users: users}); err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/self/fd/%d/big", mnt.Fd())
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Uid != ids.First || st.Gid != ids.First {
		return fmt.Errorf("%s belongs to %d:%d, want %d", path, st.Uid, st.Gid, ids.First)
	}
	_, err = os.ReadFile(path)
	return err
}
