//go:build failpoint

package crash

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

func TestMain(m *testing.M) { daemon.Main(m) }

// deep is a definition of five links: container, overlay, squashfs, loop device, bind mount of the directory that holds the image.
func deep(dir, image string) *models.Container {
	root, mounted := models.Base("root"), models.Base("mount")
	str := func(s string) *string { return &s }
	stop := int64(5)
	bind := &models.Mount{Kind: "bind", Bind: &models.MountBind{Base: &root, Path: &dir}}
	loop := &models.Attach{Kind: "loopback", Loopback: &models.AttachLoopback{Base: &mounted, Path: str("/" + image), Mount: bind}}
	lower := &models.Mount{Kind: "attach", Attach: &models.MountAttach{FsType: str("squashfs"), Attach: loop}}
	overlay := &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{lower}}}
	return &models.Container{Name: "deep", Mount: overlay, Command: str(smallroot.Waits), State: models.ContainerStateRunning,
		StopTimeout: &stop}
}

// image packs a small root once for all rounds.
func image(t *testing.T) (dir, name string) {
	t.Helper()
	dir = t.TempDir()
	smallroot.Squashfs(t, filepath.Join(dir, "root.squashfs"))
	return dir, "root.squashfs"
}

// answered is what a client knows: which of its requests were answered. One that was not may have happened or not.
type answered struct{ created, stopped, deleted bool }

// life takes a container through its life, until the daemon dies.
func life(ctx context.Context, d *daemon.Daemon, spec *models.Container) (a answered, err error) {
	if err := expect(ctx, d, http.StatusCreated, http.MethodPost, "/container", spec); err != nil {
		return a, err
	}
	a.created = true
	if err := expect(ctx, d, http.StatusOK, http.MethodPatch, "/container?name=deep&state=exited", nil); err != nil {
		return a, err
	}
	var list []*models.Container
	if _, err := d.Call(ctx, http.MethodGet, "/container?name=deep", nil, &list); err != nil {
		return a, err
	}
	if err := expect(ctx, d, http.StatusOK, http.MethodGet, fmt.Sprintf("/container/%d/wait?timeout=20", list[0].ID), nil); err != nil {
		return a, err
	}
	a.stopped = true
	if err := expect(ctx, d, http.StatusOK, http.MethodDelete, "/container?name=deep", nil); err != nil {
		return a, err
	}
	a.deleted = true
	return a, nil
}

func expect(ctx context.Context, d *daemon.Daemon, want int, method, path string, body any) error {
	var answer any
	got, err := d.Call(ctx, method, path, body, &answer)
	if err == nil && got != want {
		err = fmt.Errorf("%s %s: %d %v, want %d", method, path, got, answer, want)
	}
	return err
}

// remove deletes all that a daemon lists, containers first.
func remove(ctx context.Context, d *daemon.Daemon) error {
	o, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range o.Containers {
		if err := expect(ctx, d, http.StatusOK, http.MethodDelete, fmt.Sprintf("/container?id=%d&force=true", c.ID), nil); err != nil {
			return err
		}
	}
	return d.WaitEmpty(ctx)
}
