//go:build lab

package nfs

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

func TestDriver(t *testing.T) {
	for _, version := range []string{"4.2", "3"} {
		t.Run("NFS "+version, func(t *testing.T) {
			mounttest.Run(t, mounttest.Suite{
				New: newDriver,
				Make: func(t testing.TB) mounttest.Case {
					m, _ := export(t, control.Dial(t), control.NFSServer, version)
					return mounttest.Case{Spec: m, Files: mounttest.Files(), Writable: true}
				},
				Hostile: func(t testing.TB) []mounttest.Hostile { return hostileSpecs(version) },
			})
		})
	}
}

func hostileSpecs(version string) []mounttest.Hostile {
	kind, says := fault.NotFound, "10.99.0.1 has no such export"
	if version == "3" { // the server does not tell what it does not have from what it denies
		kind, says = fault.Forbidden, "10.99.0.1 does not let this node have it, or has no such export"
	}
	return []mounttest.Hostile{
		{What: "no export", Spec: spec(control.NFSServer, "/nosuch/export", version), Kind: kind, Says: says},
		{What: "closed port", Spec: spec(control.NFSServer, "/export", version, "port=2999"), Kind: fault.Unavailable, Says: "nothing can be reached at 10.99.0.1:2999: connection refused"},
		{What: "no such name", Spec: spec("nosuch.invalid", "/export", version), Kind: fault.Unavailable, Says: "the address of nosuch.invalid cannot be found"}, // there is no name server
		{What: "no such option", Spec: spec(control.NFSServer, "/export", version, "addr=6.6.6.6"), Kind: fault.Invalid, Says: "addr=6.6.6.6"},
		{What: "an option in the path", Spec: spec(control.NFSServer, "/export,vers=4.1", version), Kind: kind, Says: "/export,vers=4.1"},
		{What: "an option of newer kernels", Spec: spec(control.NFSServer, "/export", version, "xprtsec=tls"), Kind: fault.Invalid, Says: "xprtsec"},
	}
}

// TestReadOnly: what is asked for, and what the server allows.
func TestReadOnly(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	m, _ := export(t, c, control.NFSServer, "4.2")
	yes := true
	m.Nfs.Ro = &yes
	_, there := c.NFS().DirIn(t, control.ReadOnly)
	for what, m := range map[string]*models.Mount{"asked for": m, "by the server": spec(control.NFSServer, path.Join(control.ReadOnly, path.Base(there)), "4.2")} {
		a := mounted(t, d, m)
		if err := os.WriteFile(filepath.Join(a.Target.Dir, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: a file can be written: %v", what, err)
		}
		if a.ReadOnly != (what == "asked for") || fsmount.ReadOnly(info(t, a)) != a.ReadOnly {
			t.Errorf("%s: %+v, %+v", what, a, info(t, a))
		}
		if err := d.Unmount(t.Context(), a, false); err != nil {
			t.Error(err)
		}
	}
}

func TestVersionsAndAddresses(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	for _, server := range []struct{ host, local, proto string }{{control.NFSServer, "10.99.0.2", "tcp"}, {control.NFSServer6, "fd99::2", "tcp6"}} {
		for asked, got := range map[string]string{"": "4.2", "4": "4.2", "4.2": "4.2", "4.1": "4.1", "4.0": "4.0", "3": "3"} {
			t.Run(server.proto+" "+asked, func(t *testing.T) {
				m, _ := export(t, c, server.host, asked)
				a := mounted(t, d, m)
				wantFiles(t, a.Target.Dir)
				i := info(t, a)
				want := []string{"vers=" + got, "addr=" + server.host, "proto=" + server.proto, "hard", "timeo=100", "retrans=3"}
				if got == "3" {
					want = append(want, "nolock")
				} else {
					want = append(want, "clientaddr="+server.local)
				}
				for _, w := range want {
					if !strings.Contains(","+i.VFSOptions+",", ","+w+",") && !(w == "nolock" && strings.Contains(i.VFSOptions, "local_lock=all")) {
						t.Errorf("%s is not in %s", w, i.VFSOptions)
					}
				}
				// A daemon that is started anew learns it from the kernel.
				again := driver(t)
				if found, state, err := again.Probe(t.Context(), a.ID, m, a.Target); err != nil || state != mount.Ready || found != a {
					t.Errorf("probe: %+v, %d, %v; want %+v", found, state, err, a)
				}
				again.Refresh(t.Context(), []mount.ID{a.ID})
				for _, d := range []*Driver{d, again} {
					if m := observe(d, a.ID); m.Nfs.Address != server.host || m.Error != "" {
						t.Errorf("observed: %+v %s", m.Nfs, m.Error)
					}
				}
				again.Close()
				if err := d.Unmount(t.Context(), a, false); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestAName: the first of its addresses is dead, the second is the server's.
func TestAName(t *testing.T) {
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/etc/hosts", hosts, 0o644) })
	names := "\n10.99.0.77 storage.lab\n10.99.0.1 storage.lab\nfd99::77 storage6.lab\nfd99::1 storage6.lab\n10.99.0.77 dead.lab\n10.99.0.78 dead.lab\n"
	if err := os.WriteFile("/etc/hosts", append(hosts, names...), 0o644); err != nil {
		t.Fatal(err)
	}
	c, d := control.Dial(t), driver(t)
	for host, address := range map[string]string{"storage.lab": control.NFSServer, "storage6.lab": control.NFSServer6} {
		m, _ := export(t, c, host, "4.2")
		a := mounted(t, d, m)
		wantFiles(t, a.Target.Dir)
		if i := info(t, a); !strings.HasPrefix(i.Source, host+":/") || addressOf(i) != address {
			t.Errorf("mounted is %s from %s", i.Source, i.VFSOptions)
		}
		if m := observe(d, a.ID); m.Nfs.Address != address {
			t.Errorf("observed: %+v", m.Nfs)
		}
		if err := d.Unmount(t.Context(), a, false); err != nil {
			t.Error(err)
		}
	}
	_, err = d.Mount(t.Context(), 1, spec("dead.lab", "/x", "4.2"), nil, mounttest.Place(t))
	if !fault.Is(err, fault.Timeout) && !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "10.99.0.77:2049") || !strings.Contains(err.Error(), "10.99.0.78:2049") {
		t.Errorf("all dead: %v (%s)", err, fault.KindOf(err))
	}
}

func TestRefusals(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	exported, there := c.NFS().DirIn(t, control.Squash)
	c.Run(t, "mkdir", path.Join(there, "below"))
	c.Run(t, "chmod", "700", there)
	_, err := d.Mount(t.Context(), 1, spec(control.NFSServer, path.Join(exported, "below"), "4.2"), nil, mounttest.Place(t))
	wantError(t, err, fault.Forbidden, "10.99.0.1 does not let this node have it: permission denied")

	m, _ := export(t, c, control.NFSServer, "4.2")
	file := path.Join(*m.Nfs.Path, "hello")
	m.Nfs.Path = &file
	_, err = d.Mount(t.Context(), 1, m, nil, mounttest.Place(t))
	wantError(t, err, fault.Invalid, "it is no directory")
}

func TestOptionsReachTheKernel(t *testing.T) {
	c, d := control.Dial(t), driver(t)
	m, _ := export(t, c, control.NFSServer, "4.2", "softerr,timeo=70", "retrans=4", "rsize=65536", "acregmin=7", "nocto", "lookupcache=pos", "noatime", "nodev", "noresvport")
	a := mounted(t, d, m)
	i := info(t, a)
	for _, want := range []string{"softerr", "timeo=70", "retrans=4", "rsize=65536", "acregmin=7", "nocto", "lookupcache=pos", "noresvport"} {
		if !strings.Contains(","+i.VFSOptions+",", ","+want+",") {
			t.Errorf("%s is not in %s", want, i.VFSOptions)
		}
	}
	for _, want := range []string{"noatime", "nodev"} {
		if !strings.Contains(","+i.Options+",", ","+want+",") {
			t.Errorf("%s is not in %s", want, i.Options)
		}
	}
	// Another mount of it has options of its own.
	other := *m.Nfs
	other.Options = nil
	b, err := d.Mount(t.Context(), 2, &models.Mount{Nfs: &other}, nil, mounttest.Place(t))
	if err != nil {
		t.Fatal(err)
	}
	if i := info(t, b); !strings.Contains(i.VFSOptions, ",hard,") || !strings.Contains(i.VFSOptions, "timeo=100,") {
		t.Errorf("the second has %s", i.VFSOptions)
	}
	if err := d.Unmount(t.Context(), b, false); err != nil {
		t.Error(err)
	}
}

// TestWhatLiesOnIt: a squashfs of a file on NFS by a loop device, and an overlay over a directory on NFS.
func TestWhatLiesOnIt(t *testing.T) {
	for _, version := range []string{"4.2", "3"} {
		t.Run(version, func(t *testing.T) {
			c, d := control.Dial(t), driver(t)
			m, there := export(t, c, control.NFSServer, version, "ro")
			c.Run(t, "mksquashfs", there, there+"/image.squashfs", "-quiet", "-no-progress", "-e", "image.squashfs")
			a := mounted(t, d, m)
			dev := mounttest.Loop(t, filepath.Join(a.Target.Dir, "image.squashfs"), true)
			squashfs := t.TempDir()
			if err := unix.Mount(dev.Path, squashfs, "squashfs", unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(squashfs, unix.MNT_DETACH) })
			wantFiles(t, squashfs)
			err := d.Unmount(t.Context(), a, false)
			wantError(t, err, fault.Busy, "loop device "+dev.Path)
			if err := unix.Unmount(squashfs, 0); err != nil {
				t.Error(err)
			}
			if err := loopdev.Detach(t.Context(), dev.Path); err != nil {
				t.Error(err)
			}
			overlaid(t, a.Target.Dir)
			if err := d.Unmount(t.Context(), a, false); err != nil {
				t.Error(err)
			}
		})
	}
}

func overlaid(t *testing.T, lower string) {
	t.Helper()
	upper, work, dir := t.TempDir(), t.TempDir(), t.TempDir()
	opts := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("changed"), 0o600); err != nil {
		t.Errorf("write to the overlay: %v", err)
	}
	wantFiles(t, lower)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
}
