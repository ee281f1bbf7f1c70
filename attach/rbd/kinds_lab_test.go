//go:build lab

package rbd_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// TestWays attaches one image in all ways that there are and reads it.
func TestWays(t *testing.T) {
	c := control.Dial(t)
	content := bytesOf(1 << 20)
	image := unique("ways")
	c.Ceph().Import(t, "rbd/"+image, bytes.NewReader(content), nil, "v1")
	hosts(t, "10.99.0.1 mon.lab", "10.99.0.77 half.lab", "10.99.0.1 half.lab")
	must(t, os.MkdirAll(credentials, 0o700))
	must(t, os.WriteFile(filepath.Join(credentials, "ceph"), []byte(adminKey(t)+"\n"), 0o600))
	ring := filepath.Join(t.TempDir(), "keyring")
	must(t, os.WriteFile(ring, []byte(c.Run(t, "ceph", "auth", "get", "client.admin")), 0o600))

	type r = *models.AttachRbd
	type o = *models.RbdOptions
	for what, change := range map[string]func(r r, o o){
		"plain":                        nil,
		"a snapshot":                   func(r r, _ o) { r.Snapshot = "v1" },
		"without a port":               func(r r, _ o) { r.Monitors = []string{"10.99.0.1"} },
		"as Ceph writes monitors":      func(r r, _ o) { r.Monitors = []string{"[v2:10.99.0.1:3300/0,v1:10.99.0.1:6789/0]"} },
		"a name":                       func(r r, _ o) { r.Monitors = []string{"mon.lab"} },
		"a name with a dead address":   func(r r, _ o) { r.Monitors = []string{"half.lab"} },
		"two monitors, one dead":       func(r r, _ o) { r.Monitors = []string{"10.99.0.1:6700", "10.99.0.1"} },
		"a name that is nowhere":       func(r r, _ o) { r.Monitors = []string{"nowhere.invalid", "10.99.0.1"} },
		"version 2":                    func(r r, o o) { r.Monitors, o.MsMode = []string{"10.99.0.1"}, "crc" },
		"version 2, crc preferred":     func(r r, o o) { r.Monitors, o.MsMode = []string{"mon.lab"}, "prefer-crc" },
		"version 2, encrypted":         func(r r, o o) { r.Monitors, o.MsMode = []string{"v2:10.99.0.1:3300/0"}, "secure" },
		"a secret file with a keyring": func(_ r, o o) { o.Secret, o.SecretFile = "", ring },
		"a credential":                 func(_ r, o o) { o.Secret, o.Credential, o.Name = "", "ceph", "client.admin" },
		"all switches": func(_ r, o o) {
			o.Share, o.Crc, o.CephRequiresSignatures, o.TCPNodelay, o.CephxSignMessages, o.AbortOnFull, o.Notrim, o.Rw = true, true, true, true, true, true, true, true
		},
		"all other switches": func(_ r, o o) {
			// nocephx_sign_messages takes a cluster that is told not to sign either: one that signs drops what is not signed.
			o.Noshare, o.Nocrc, o.NocephRequiresSignatures, o.NotcpNodelay, o.Ro = true, true, true, true, true
		},
		"all values": func(_ r, o o) {
			o.Fsid, o.IP = strings.TrimSpace(c.Run(t, "ceph", "fsid")), "10.99.0.2"
			o.Osdkeepalive, o.OsdIdleTTL, o.LockTimeout, o.QueueDepth, o.AllocSize, o.MountTimeout = 7, 50, 9, 32, 4096, 15
			o.ReadFromReplica, o.CrushLocation, o.CompressionHint = "localize", "rack:r1|host:h", "incompressible"
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := spec(t, image, change)
			dev := attached(t, driver(unique("ways")), 1, s, attach.Base{Dir: "/"})
			wantContent(t, dev, content)
			readOnly := s.Rbd.Options.Ro || s.Rbd.Snapshot != ""
			if dev.ReadOnly != readOnly || writable(dev.Path) == readOnly {
				t.Errorf("read-only: %v, want %v", dev.ReadOnly, readOnly)
			}
		})
	}
	t.Run("only read by its user", func(t *testing.T) {
		dev := attached(t, driver(unique("ways")), 1, spec(t, image, nil), attach.Base{Dir: "/", ReadOnly: true})
		if !dev.ReadOnly || writable(dev.Path) {
			t.Errorf("it can be written: %+v", dev)
		}
		if w := c.Ceph().Watchers(t, "rbd/"+image); len(w) != 0 {
			t.Errorf("it is watched by %v, as if it were written", w)
		}
	})
	t.Run("the mark", func(t *testing.T) {
		instance := unique("mark")
		dev := attached(t, driver(instance), 12, spec(t, image, nil), attach.Base{Dir: "/"})
		if line := configInfo(t, dev); !strings.HasSuffix(line, " windlass:"+instance+":12") {
			t.Errorf("the line has no mark at its end (of %d words)", len(strings.Fields(line)))
		}
	})
}

func writable(path string) bool {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, make([]byte, 0), 0)
	return err == nil
}

// hosts adds lines to /etc/hosts for the time of the test.
func hosts(t *testing.T, lines ...string) {
	t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if !os.IsNotExist(err) {
		must(t, err)
	}
	must(t, os.WriteFile("/etc/hosts", []byte(string(before)+"\n"+strings.Join(lines, "\n")+"\n"), 0o644))
	t.Cleanup(func() { must(t, os.WriteFile("/etc/hosts", before, 0o644)) })
}

// elsewhere attaches an image of another cluster and reads it.
func elsewhere(t *testing.T, c control.Ceph, change func(r *models.AttachRbd, o *models.RbdOptions)) {
	t.Helper()
	image, content := unique("elsewhere"), bytesOf(1<<20)
	c.Import(t, "rbd/"+image, bytes.NewReader(content), nil)
	s := spec(t, image, func(r *models.AttachRbd, o *models.RbdOptions) {
		o.Secret = c.Key(t, "client.admin")
		change(r, o)
	})
	dev := attached(t, driver(unique("elsewhere")), 1, s, attach.Base{Dir: "/"})
	wantContent(t, dev, content)
}

func TestIPv6(t *testing.T) {
	c := control.Dial(t).Cluster(t, control.Six)
	info := c.Info(t)
	t.Run("version 1", func(t *testing.T) {
		elsewhere(t, c, func(r *models.AttachRbd, _ *models.RbdOptions) { r.Monitors = info.V1 })
	})
	t.Run("version 2", func(t *testing.T) {
		elsewhere(t, c, func(r *models.AttachRbd, o *models.RbdOptions) { r.Monitors, o.MsMode = info.V2, "crc" })
	})
	t.Run("without a port", func(t *testing.T) {
		elsewhere(t, c, func(r *models.AttachRbd, _ *models.RbdOptions) { r.Monitors = []string{"fd99::1"} })
	})
}

// TestThree attaches from a cluster of three monitors one of which has died.
func TestThree(t *testing.T) {
	c := control.Dial(t).Cluster(t, control.Three)
	c.Signal(t, "mon.b", "KILL")
	elsewhere(t, c, func(r *models.AttachRbd, _ *models.RbdOptions) { r.Monitors = c.Info(t).V1 })
}

func TestNamespace(t *testing.T) {
	c := control.Dial(t)
	space, image, content := unique("space"), unique("image"), bytesOf(1<<20)
	c.Run(t, "rbd", "namespace", "create", "rbd/"+space)
	t.Cleanup(func() { c.Run(t, "rbd", "namespace", "rm", "rbd/"+space) })
	c.Ceph().Import(t, "rbd/"+space+"/"+image, bytes.NewReader(content), nil)
	key := c.Ceph().User(t, "client."+space, "mon", "profile rbd", "osd", "profile rbd pool=rbd namespace="+space)
	dev := attached(t, driver(unique("space")), 1, spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) {
		o.Namespace, o.Name, o.Secret = space, space, key
	}), attach.Base{Dir: "/"})
	wantContent(t, dev, content)
}

func TestClone(t *testing.T) {
	c := control.Dial(t)
	parent, clone, content := unique("parent"), unique("clone"), bytesOf(1<<20)
	c.Ceph().Import(t, "rbd/"+parent, bytes.NewReader(content), nil, "v1")
	c.Run(t, "rbd", "snap", "protect", "rbd/"+parent+"@v1")
	t.Cleanup(func() { c.Run(t, "rbd", "snap", "unprotect", "rbd/"+parent+"@v1") })
	c.Run(t, "rbd", "clone", "rbd/"+parent+"@v1", "rbd/"+clone)
	t.Cleanup(func() { c.Run(t, "rbd", "rm", "--no-progress", "rbd/"+clone) })
	dev := attached(t, driver(unique("clone")), 1, spec(t, clone, nil), attach.Base{Dir: "/"})
	wantContent(t, dev, content)
}

// TestFeatures attaches an image with what Ceph gives images when nobody says otherwise, and writes it.
func TestFeatures(t *testing.T) {
	c := control.Dial(t)
	image := unique("features")
	c.Ceph().Image(t, "rbd/"+image, 8<<20, []string{"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"})
	d := driver(unique("features"))
	dev := attached(t, d, 1, spec(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Exclusive, o.LockOnRead = true, true }), attach.Base{Dir: "/"})
	content := bytesOf(1 << 20)
	f, err := os.OpenFile(dev.Path, os.O_WRONLY|unix.O_SYNC, 0)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	must(t, f.Close())
	wantContent(t, dev, content)
	if w := c.Ceph().Watchers(t, "rbd/"+image); len(w) != 1 {
		t.Errorf("it is watched by %v", w)
	}
}
