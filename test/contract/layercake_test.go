// Package contract drives windlass with the generated client of the forerunner, ImageAPI 0.2.0, as Kraken's layercake does. It is a
// module of its own, so that the client is built with the libraries that it was made for.
package contract

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kraken-hpc/imageapi/client/attachments"
	"github.com/kraken-hpc/imageapi/client/containers"
	"github.com/kraken-hpc/imageapi/client/mounts"
	"github.com/kraken-hpc/imageapi/models"
)

func ptr[T any](v T) *T { return &v }

// image packs busybox as a squashfs.
func image(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"bin", "dev", "proc", "sys", "run", "tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: install Debian's busybox-static", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "image.squashfs")
	if b, err := exec.Command("mksquashfs", root, out, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, b)
	}
	return out
}

func squashfs(path string) *models.Mount {
	return &models.Mount{Kind: "attach", Attach: &models.MountAttach{FsType: ptr("squashfs"), Attach: &models.Attach{
		Kind: "loopback", Loopback: &models.AttachLoopback{Path: &path, Base: ptr("root")}}}}
}

// definition is what layercake sends: the whole chain in one body.
func definition(path string) *models.Container {
	return &models.Container{Name: "layer1.node-2", Command: ptr(`/bin/sh -c 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done'`),
		State: "running", Mount: &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{squashfs(path)}}}}
}

// named is layercake's look at the list: a container's state by its name, "" when it is not there.
func named(t *testing.T, s *service, name string) models.ContainerState {
	t.Helper()
	list, err := s.Containers.ListContainers(containers.NewListContainersParams())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Payload {
		if string(c.Name) == name {
			return c.State
		}
	}
	return ""
}

// until polls like layercake, only faster, for as long as it would wait.
func until(t *testing.T, s *service, name string, want models.ContainerState) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); <-tick.C {
		if named(t, s, name) == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %q", name, named(t, s, name), want)
}

func TestLayercakeSequence(t *testing.T) {
	s, path := start(t), image(t)
	for range 2 { // the name is free again after the first time
		created, err := s.Containers.CreateContainer(containers.NewCreateContainerParams().WithContainer(definition(path)))
		if err != nil {
			t.Fatal(err)
		}
		c := created.Payload
		if c.State != "running" || c.Refs != 1 || c.Logfile == "" || c.Mount.Mountpoint == "" || c.Mount.Overlay.Upperdir == "" {
			t.Errorf("read-only fields are missing: %+v", c)
		}
		if dev := c.Mount.Overlay.Lower[0].Attach.Attach.DeviceFile; dev == "" {
			t.Error("device_file is missing")
		}
		until(t, s, "layer1.node-2", "running")
		stopped, err := s.Containers.SetContainerState(containers.NewSetContainerStateParams().WithName(ptr("layer1.node-2")).WithState("exited"))
		if err != nil {
			t.Fatal(err)
		}
		if st := stopped.Payload.State; st != "stopping" && st != "exited" {
			t.Errorf("state %q after asking it to stop", st)
		}
		until(t, s, "layer1.node-2", "exited")
		if _, err := s.Containers.DeleteContainer(containers.NewDeleteContainerParams().WithName(ptr("layer1.node-2"))); err != nil {
			t.Fatal(err)
		}
		if st := named(t, s, "layer1.node-2"); st != "" {
			t.Errorf("deleted, but listed as %q", st)
		}
	}
	nothingLeft(t, s)
}

// nothingLeft holds that what a definition defined has gone with it.
func nothingLeft(t *testing.T, s *service) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		m, err := s.Mounts.ListMounts(mounts.NewListMountsParams())
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Attachments.ListAttachments(attachments.NewListAttachmentsParams())
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Payload) == 0 && len(a.Payload) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left: %d mounts, %d attachments", len(m.Payload), len(a.Payload))
		}
	}
}

func TestIdsAndReferences(t *testing.T) {
	s, path := start(t), image(t)
	m, err := s.Mounts.Mount(mounts.NewMountParams().WithMount(squashfs(path)))
	if err != nil {
		t.Fatal(err)
	}
	if m.Payload.Attach.Attach.ID != 1 || m.Payload.ID != 2 || m.Payload.Refs != 1 {
		t.Errorf("ids %d and %d, refs %d; want 1, 2 and 1", m.Payload.Attach.Attach.ID, m.Payload.ID, m.Payload.Refs)
	}
	over, err := s.Mounts.Mount(mounts.NewMountParams().WithMount(&models.Mount{Kind: "overlay",
		Overlay: &models.MountOverlay{Lower: []*models.Mount{{ID: 2, Mountpoint: "ignored", Refs: 77}}}}))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // reading changes nothing
		if r := refs(t, s, 2); r != 2 {
			t.Errorf("refs of what an overlay names: %d, want 2", r)
		}
	}
	if _, err := s.Mounts.DeleteMount(mounts.NewDeleteMountParams().WithID(2)); status(t, err) != 409 {
		t.Errorf("deleting what is in use: %v", err)
	}
	if _, err := s.Mounts.DeleteMount(mounts.NewDeleteMountParams().WithID(int64(over.Payload.ID)).WithForce(ptr(true))); err != nil {
		t.Fatal(err)
	}
	if r := refs(t, s, 2); r != 1 {
		t.Errorf("refs after its holder went: %d, want 1", r)
	}
	if _, err := s.Mounts.DeleteMount(mounts.NewDeleteMountParams().WithID(2)); err != nil { // fresh and unreferenced: no force needed
		t.Fatal(err)
	}
	if _, err := s.Mounts.ListMounts(mounts.NewListMountsParams().WithID(ptr(int64(2)))); status(t, err) != 404 {
		t.Errorf("listing an unknown id: %v", err)
	}
	nothingLeft(t, s)
}

func refs(t *testing.T, s *service, id int64) int64 {
	t.Helper()
	got, err := s.Mounts.ListMounts(mounts.NewListMountsParams().WithID(&id))
	if err != nil {
		t.Fatal(err)
	}
	return got.Payload[0].Refs
}
