//go:build lab

package storage

import (
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/test/lab/control"
)

// Where all servers of the lab listen, and what the guest calls that.
const (
	address  = control.NFSServer
	address6 = control.NFSServer6
	hostname = "storage.example.org"
)

// servers are those of the lab, with what has been published on them. That stays until the lab goes: tests share it.
type servers struct {
	*control.Client
	info    control.Info
	done    map[string]bool
	secrets map[string]string // by the names that definitions give them
}

// lasting is a test whose things on the servers stay when it ends, for others.
type lasting struct{ testing.TB }

func (lasting) Cleanup(func()) {}

// shared is made by the first test that asks for it; tests run one after the other.
var shared = sync.OnceValue(func() *servers { return &servers{done: map[string]bool{}, secrets: map[string]string{}} })

func lab(t *testing.T) *servers {
	t.Helper()
	s := shared()
	if s.Client == nil {
		c := control.Dial(t)
		s.Client, s.info = c, c.Info(t)
	}
	return s
}

// once does something that is to be done for all tests.
func (s *servers) once(what string, do func()) {
	if !s.done[what] {
		do()
		s.done[what] = true
	}
}

// publish puts on the servers what an example of the documentation needs, as the page beside it says; tree is the file system in it: debian,
// or small.
func (s *servers) publish(t *testing.T, example, tree string) {
	t.Helper()
	switch example {
	case "nfs-directory":
		s.directory(t, tree)
	case "nfs-squashfs":
		s.squashfs(t, tree)
	case "iscsi-squashfs":
		s.target(t, iqn(tree), control.LUN{File: s.squashfs(t, tree), ReadOnly: true})
	case "iscsi-ext4":
		node := nodeOf(tree)
		s.target(t, iqn(node), control.LUN{File: s.ext4(t, tree)}, control.Account{User: node, Password: s.chap(node)})
	case "rbd-squashfs":
		s.image(t, tree, s.squashfs(t, tree), "v1")
		s.user(t, "node", "profile rbd-read-only pool=rbd")
	case "rbd-ext4":
		s.image(t, nodeOf(tree), s.ext4(t, tree), "")
		s.user(t, nodeOf(tree), "profile rbd pool=rbd")
	default:
		t.Fatalf("the tests do not know what docs/examples/%s.json needs", example)
	}
}

// nodeOf names the node that a tree that is written belongs to.
func nodeOf(tree string) string { return map[string]string{debian: "node1", small: "node2"}[tree] }

func iqn(name string) string { return "iqn.2026-01.org.example:" + name }

// images is the directory on the servers' side that NFS clients know as control.Export, and the documentation as /images.
func (s *servers) images() string { return path.Join(s.info.Exports, control.Export) }

// cache is where the Debian is on the servers' side: see test/rootfs.sh. The lab's directory lies in it.
func (s *servers) cache() string { return path.Dir(s.info.Dir) }

// directory has the tree in the export, and gives where it lies there.
func (s *servers) directory(t *testing.T, tree string) string {
	t.Helper()
	dir := path.Join(s.images(), tree)
	s.once("directory "+tree, func() {
		if tree == small {
			s.upload(t, smallTree(t), dir)
			return
		}
		s.Run(t, "cp", "-a", path.Join(s.cache(), "debian-rootfs"), dir)
	})
	return dir
}

// squashfs has the tree as one file in the export.
func (s *servers) squashfs(t *testing.T, tree string) string {
	t.Helper()
	file := path.Join(s.images(), tree+".squashfs")
	s.once("squashfs "+tree, func() {
		if tree == debian {
			s.Run(t, "cp", path.Join(s.cache(), "debian.squashfs"), file)
			return
		}
		s.Run(t, "mksquashfs", s.directory(t, tree), file, "-quiet", "-no-progress", "-noappend", "-noD", "-noF")
	})
	return file
}

// ext4 has the tree as a disk that can be written.
func (s *servers) ext4(t *testing.T, tree string) string {
	t.Helper()
	file := path.Join(s.info.Dir, nodeOf(tree)+".img")
	size := map[string]string{debian: "600M", small: "100M"}[tree]
	from := map[string]string{debian: path.Join(s.cache(), "debian-rootfs"), small: path.Join(s.images(), small)}[tree]
	s.once("ext4 "+tree, func() {
		if tree == small {
			s.directory(t, tree)
		}
		s.Run(t, "truncate", "-s", size, file)
		s.Run(t, "mkfs.ext4", "-q", "-d", from, file)
	})
	return file
}

// target has a target with one disk, LUN 1.
func (s *servers) target(t *testing.T, name string, lun control.LUN, accounts ...control.Account) {
	t.Helper()
	s.once("target "+name, func() {
		lun.Number = 1
		s.TGT().Target(lasting{t}, control.Target{IQN: name, LUNs: []control.LUN{lun}, CHAP: accounts})
	})
}

// chap gives the password of an account.
func (s *servers) chap(user string) string {
	s.secrets["iscsi-"+user] = "a long secret of " + user
	return s.secrets["iscsi-"+user]
}

// image has a file as an image of the pool rbd; with a snapshot, for many who read it, else for one who writes it.
func (s *servers) image(t *testing.T, name, file, snapshot string) {
	t.Helper()
	s.once("image rbd/"+name, func() {
		features := "layering"
		if snapshot == "" {
			features = "layering,exclusive-lock"
		}
		s.Run(t, "rbd", "import", "--no-progress", "--image-feature", features, file, "rbd/"+name)
		if snapshot != "" {
			s.Run(t, "rbd", "snap", "create", "--no-progress", "rbd/"+name+"@"+snapshot)
			s.Run(t, "rbd", "snap", "protect", "rbd/"+name+"@"+snapshot)
		}
	})
}

// user has a user of Ceph whose key definitions call ceph-NAME.
func (s *servers) user(t *testing.T, name, caps string) string {
	t.Helper()
	s.once("user "+name, func() {
		s.secrets["ceph-"+name] = s.Ceph().User(t, "client."+name, "mon", "profile rbd", "osd", caps)
	})
	return s.secrets["ceph-"+name]
}

// nobody holds that no server has a session or a watcher of the node.
func (s *servers) nobody(t *testing.T) {
	t.Helper()
	for what := range s.done {
		if name, ok := strings.CutPrefix(what, "image "); ok {
			within(t, answerTimeout, "nobody watches "+name, func() bool { return len(s.Ceph().Watchers(t, name)) == 0 })
		}
	}
	within(t, answerTimeout, "nobody is logged in to a target", func() bool {
		return !strings.Contains(s.TGT().Adm(t, "show", "target"), "I_T nexus:")
	})
}
