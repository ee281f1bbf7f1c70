package cli

import (
	"cmp"
	"os"
	"path"
	"strings"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// fsTypeOf guesses the file system of an image by the end of its name; "" when it says nothing.
func fsTypeOf(file string) string {
	switch strings.TrimPrefix(path.Ext(file), ".") {
	case "sqsh", "sqfs", "sfs", "squashfs", "squash":
		return "squashfs"
	case "erofs":
		return "erofs"
	case "ext4":
		return "ext4"
	case "xfs":
		return "xfs"
	case "btrfs":
		return "btrfs"
	}
	return ""
}

// storageImage makes the mount of what lies on network storage; nil when image names nothing of the kind.
func storageImage(image, fs string) (m *models.Mount, err error) {
	var at *models.Attach
	switch {
	case strings.HasPrefix(image, nfsPrefix):
		m, err = nfsImage(image, fs)
	case strings.HasPrefix(image, rbdPrefix):
		at, err = rbdImage(image)
	case strings.HasPrefix(image, iscsiPrefix):
		at, err = iscsiImage(image)
	}
	if err != nil {
		return nil, usageError{err, ""}
	}
	if at != nil {
		m = attachMount(at, cmp.Or(fs, "squashfs"), nil)
	}
	return m, nil
}

// imageMount makes the mount of what --image names: a chunkfs image, network storage, a URL, a device, a directory or an image file.
func (a *app) imageMount(daemon *api, image, fs string) (*models.Mount, error) {
	if strings.HasPrefix(image, chunkfsPrefix) {
		m, err := chunkfsMount(image)
		if err != nil {
			return nil, usageError{err, ""}
		}
		return m, a.placeStores(daemon, m.Chunkfs)
	}
	if m, err := storageImage(image, fs); m != nil || err != nil {
		return m, err
	}
	for _, scheme := range []string{"http://", "https://", "file://"} {
		if strings.HasPrefix(image, scheme) {
			return uriMount(image), nil
		}
	}
	image, err := a.path(daemon, image)
	if err != nil {
		return nil, err
	}
	if daemon.local {
		if st, err := os.Stat(image); err == nil && st.IsDir() {
			return &models.Mount{Kind: models.MountKindBind, Bind: &models.MountBind{
				Base: models.BaseRoot.Pointer(), Path: &image, Ro: ref(true)}}, nil
		}
	}
	if fs == "" {
		fs = fsTypeOf(image)
	}
	if fs == "" {
		fs = "squashfs"
	}
	if strings.HasPrefix(image, "/dev/") {
		return attachMount(localSpec(image), fs, nil), nil
	}
	return attachMount(&models.Attach{Kind: models.AttachKindLoopback, Loopback: &models.AttachLoopback{
		Base: models.BaseRoot.Pointer(), Path: &image}}, fs, nil), nil
}
