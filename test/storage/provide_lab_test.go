//go:build lab

package storage

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// page begins the names of images, users and exports that the definitions of pages have on the servers, and ends those of targets: the
// examples have some of the same names.
const page = "page-"

// provide makes what a definition names on the servers, and puts its addresses, names and secrets right.
func (w *world) provide(a *models.Attach, fsType string) {
	w.t.Helper()
	switch {
	case a.Rbd != nil:
		w.provideImage(a.Rbd, fsType)
	case a.Iscsi != nil:
		w.provideTarget(a.Iscsi, fsType)
	case a.Loopback != nil && a.Loopback.Mount != nil:
		w.provideMount(a.Loopback.Mount)
	default:
		w.t.Fatalf("the tests do not know what %+v needs", a)
	}
}

func (w *world) provideMount(m *models.Mount) {
	w.t.Helper()
	switch {
	case m.Attach != nil:
		w.provide(m.Attach.Attach, *m.Attach.FsType)
	case m.Overlay != nil:
		for _, lower := range m.Overlay.Lower {
			w.provideMount(lower)
		}
	case m.Nfs != nil:
		w.provideExport(m.Nfs)
	default:
		w.t.Fatalf("the tests do not know what %+v needs", m)
	}
}

// provideImage makes pool, namespace, image, snapshot and user.
func (w *world) provideImage(r *models.AttachRbd, fsType string) {
	w.t.Helper()
	s, t := lab(w.t), w.t
	if r.Options == nil {
		r.Options = &models.RbdOptions{}
	}
	o, place := r.Options, *r.Pool
	s.once("pool "+place, func() {
		if place != "rbd" {
			s.Run(t, "ceph", "osd", "pool", "create", place, "8")
			s.Run(t, "ceph", "osd", "pool", "application", "enable", place, "rbd")
		}
	})
	if o.Namespace != "" {
		place += "/" + o.Namespace
		s.once("namespace "+place, func() { s.Run(t, "rbd", "namespace", "create", place) })
	}
	*r.Image = page + *r.Image
	name := place + "/" + *r.Image
	s.once("image "+name, func() {
		s.Run(t, "rbd", "import", "--no-progress", "--image-feature", "layering,exclusive-lock", s.content(t, fsType), name)
	})
	if r.Snapshot != "" {
		s.once("snapshot "+name+"@"+r.Snapshot, func() { s.Run(t, "rbd", "snap", "create", "--no-progress", name+"@"+r.Snapshot) })
	}
	w.provideUser(o)
	r.Monitors = righted(t, r.Monitors)
	if strings.Contains(r.Monitors[0], address6) { // a cluster has one family of addresses
		_, port, _ := net.SplitHostPort(r.Monitors[0])
		r.Monitors[0] = strings.TrimSuffix(net.JoinHostPort(address, port), ":")
	}
	if o.Fsid != "" {
		o.Fsid = strings.TrimSpace(s.Run(t, "ceph", "fsid"))
	}
	if o.IP != "" {
		o.IP = "10.99.0.2"
	}
}

// provideUser makes a user who may do all with images, and puts its key where the definition has it.
func (w *world) provideUser(o *models.RbdOptions) {
	w.t.Helper()
	s, t := lab(w.t), w.t
	if o.Name != "" && o.Name != "admin" {
		o.Name = page + o.Name
		s.once("user "+o.Name, func() { s.Ceph().User(t, "client."+o.Name, "mon", "profile rbd", "osd", "profile rbd") })
	}
	key := s.Ceph().Key(t, "client."+cmp.Or(o.Name, "admin"))
	w.secret(key, &o.Credential, &o.Secret, &o.SecretFile)
}

// secret puts a secret where one of three fields says that it is.
func (w *world) secret(value string, credential, secret, file *string) {
	w.t.Helper()
	all := lab(w.t).secrets
	name := fmt.Sprintf("%s%d", page, len(all))
	all[name] = value
	switch {
	case *credential != "":
		must(w.t, os.WriteFile(filepath.Join(w.secrets, *credential), []byte(value+"\n"), 0o600))
	case *file != "":
		*file = filepath.Join(w.secrets, name)
		must(w.t, os.WriteFile(*file, []byte(value+"\n"), 0o600))
	default:
		*secret = value
	}
}

// content gives a file with a file system.
func (s *servers) content(t *testing.T, fsType string) string {
	t.Helper()
	if fsType == "ext4" {
		return s.ext4(t, small)
	}
	return s.squashfs(t, small)
}

// provideTarget makes a target as the definition has it, with the unit that it asks for.
func (w *world) provideTarget(i *models.AttachIscsi, fsType string) {
	w.t.Helper()
	s, t := lab(w.t), w.t
	lun := control.LUN{Number: 1, File: s.content(t, fsType), ReadOnly: fsType == "squashfs"}
	if i.Lun != nil {
		lun.Number = int(*i.Lun)
	}
	*i.Target += ":" + strings.Trim(page, "-")
	target := control.Target{IQN: *i.Target, LUNs: []control.LUN{lun}}
	if i.Chap != nil {
		target.CHAP = []control.Account{w.account(i.Chap)}
	}
	if i.MutualChap != nil {
		mutual := w.account(i.MutualChap)
		target.Mutual = &mutual
	}
	s.TGT().Target(t, target)
	i.Host = &righted(t, []string{*i.Host})[0]
}

// account gives an account for what a definition says of one.
func (w *world) account(c *models.IscsiChap) control.Account {
	w.t.Helper()
	*c.User = page + *c.User
	a := control.Account{User: *c.User, Password: "password of " + *c.User}
	w.secret(a.Password, &c.Credential, &c.Secret, &c.SecretFile)
	return a
}

// provideExport has the small tree, or a file with it, in the export.
func (w *world) provideExport(n *models.MountNfs) {
	w.t.Helper()
	s, t := lab(w.t), w.t
	s.squashfs(t, small)
	name, at := page+path.Base(*n.Path), control.Export
	s.once("export of a page "+name, func() { s.Run(t, "cp", "-a", path.Join(s.images(), small), path.Join(s.images(), name)) })
	if n.Version != nil && strings.HasPrefix(*n.Version, "3") {
		at = s.images() // clients of NFS 3 say the server's own path
	}
	at = path.Join(at, name)
	n.Path, n.Host = &at, &righted(t, []string{*n.Host})[0]
}
