//go:build ceph

package main

import (
	"strings"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// testRemove: what is protected wants --force; then nothing is left of it.
func testRemove(l *lab) {
	path := l.small("rm", "rm")
	l.run(3, []string{"remove", "rbd:rbd/remove"}, "no such image", "windlass-ceph list rbd:rbd")
	l.run(0, []string{"publish", path, "rbd:rbd/remove"})
	l.run(4, []string{"remove", "rbd:rbd/remove"}, "snapshot v1 is protected", "--force")
	l.run(4, []string{"remove", "rbd:rbd/remove@v1"}, "snapshot v1 is protected", "--force")
	l.run(3, []string{"remove", "rbd:rbd/remove@v2"}, "no such snapshot", "it has: v1")
	l.holds("rbd/remove@v1", path)
	l.run(0, []string{"remove", "rbd:rbd/remove@v1", "--force"})
	if got := l.list("rbd:rbd")["remove"]; len(got.Snapshots) != 0 {
		l.Errorf("the snapshot is still there: %+v", got)
	}
	l.run(0, []string{"remove", "rbd:rbd/remove"})
	l.run(0, []string{"publish", path, "rbd:rbd/remove"})
	if p := l.run(0, []string{"remove", "rbd:rbd/remove", "--force", "--json"}); !strings.Contains(p.out.String(), `"image": "remove"`) {
		l.Error(p.out.String())
	}
	l.only("remove")
}

// testRemoving: what a removal has left that was cut short is no image any more; the next publish removes it.
func testRemoving(l *lab) {
	path := l.small("removing", "removing")
	l.run(0, []string{"publish", path, "rbd:rbd/removing"})
	const left = "removing.windlass-gone-0badcafe"
	l.rbd("rename", "rbd/removing", "rbd/"+left)
	if got := l.list("rbd:rbd")[left]; got.State != rbd.Removing || got.Of != "removing" {
		l.Errorf("it is listed as %+v", got)
	}
	l.run(0, []string{"publish", path, "rbd:rbd/removing"}, "removing rbd:rbd/"+left+", which an earlier attempt has left")
	l.only("removing", "removing")
	l.rbd("rename", "rbd/removing", "rbd/"+left)
	l.run(0, []string{"remove", "rbd:rbd/" + left, "--force"})
	l.only("removing")
}

// testRemoveOpen: an image that is open to write stays, with its snapshots; --evict cuts the writer off.
func testRemoveOpen(l *lab) {
	path := l.small("rmopen", "rmopen")
	l.run(0, []string{"publish", path, "rbd:rbd/rmopen"})
	writer := l.hold("rmopen", "", true)
	l.run(4, []string{"remove", "rbd:rbd/rmopen", "--force"}, "open to write, by 10.99.0.1:0/", "--evict")
	l.run(4, []string{"remove", "rbd:rbd/rmopen@v1"}, "protected")
	l.holds("rbd/rmopen@v1", path)
	if got := l.list("rbd:rbd")["rmopen"].Watchers; len(got) != 1 || !strings.HasPrefix(got[0], "10.99.0.1:0/") {
		l.Errorf("writers are listed as %q", got)
	}
	l.run(0, []string{"remove", "rbd:rbd/rmopen", "--force", "--evict"})
	l.only("rmopen")
	if got := writer.head(); !strings.Contains(got, "error:") {
		l.Errorf("who was cut off reads %s", got)
	}
}

// testClones: a snapshot that has clones stays whatever is said.
func testClones(l *lab) {
	l.run(0, []string{"publish", l.small("parent", "parent"), "rbd:rbd/parent"})
	l.rbd("clone", "rbd/parent@v1", "rbd/child-of-it")
	l.run(4, []string{"remove", "rbd:rbd/parent", "--force"}, "has clones, which need it: rbd:rbd/child-of-it", "rbd flatten")
	l.run(4, []string{"remove", "rbd:rbd/parent@v1", "--force"}, "rbd:rbd/child-of-it")
	if p := l.run(0, []string{"list", "rbd:rbd"}); !strings.Contains(p.out.String(), "v1* (1 clone)") {
		l.Error(p.out.String())
	}
	l.run(0, []string{"remove", "rbd:rbd/child-of-it"})
	l.run(0, []string{"remove", "rbd:rbd/parent", "--force"})
	l.only("parent")
}

// testRemoveBlind: who cannot see what needs an image does not get to remove it.
func testRemoveBlind(l *lab) {
	path := l.small("blind", "blind")
	l.run(0, []string{"publish", path, "rbd:rbd/blind"})
	if err := l.ceph.Pool(l.ctx, "rest"); err != nil { // clones may be there
		l.Fatal(err)
	}
	key, err := l.ceph.User(l.ctx, "client.blind", "mon", "profile rbd", "osd", "allow rwx pool=rbd")
	if err != nil {
		l.Fatal(err)
	}
	as := []string{"--name", "client.blind", "--keyring", l.keyring("client.blind", key)}
	for _, args := range [][]string{{"remove", "rbd:rbd/blind"}, {"remove", "rbd:rbd/blind", "--force"}, {"remove", "rbd:rbd/blind@v1", "--force"}} {
		l.run(1, append(args, as...), "see what needs it: list the clones of snapshot v1", "not permitted")
		l.holds("rbd/blind@v1", path)
		if got := l.list("rbd:rbd")["blind"]; len(got.Snapshots) != 1 || !got.Snapshots[0].Protected {
			l.Errorf("%v: it is %+v now", args, got)
		}
	}
	l.run(0, []string{"remove", "rbd:rbd/blind", "--force"})
}

// testNamespace: the same in a namespace, which the pool's own images are no part of.
func testNamespace(l *lab) {
	path := l.small("ns", "ns")
	l.run(3, []string{"publish", path, "rbd:rbd/hpc/image"}, "no namespace hpc", "rbd namespace create rbd/hpc")
	l.rbd("namespace", "create", "rbd/hpc")
	p := l.run(0, []string{"publish", path, "rbd:rbd/hpc/image"})
	if !strings.Contains(p.out.String(), `"namespace": "hpc"`) {
		l.Errorf("nodes are not told the namespace: %s", p.out.String())
	}
	l.holds("rbd/hpc/image@v1", path)
	l.only("image")
	if list := l.list("rbd:rbd/hpc"); len(list) != 1 || list["image"].Name.String() != "rbd:rbd/hpc/image" {
		l.Errorf("there is %+v", list)
	}
	l.run(4, []string{"publish", path, "rbd:rbd/hpc/image"}, "there is such an image")
	l.run(0, []string{"publish", path, "rbd:rbd/hpc/image", "--replace", "--remove-replaced"})
	l.run(0, []string{"remove", "rbd:rbd/hpc/image", "--force"})

	// A user with rights on the namespace alone cannot ask whether it is there.
	key, err := l.ceph.User(l.ctx, "client.tenant", "mon", "profile rbd", "osd", "profile rbd pool=rbd namespace=hpc")
	if err != nil {
		l.Fatal(err)
	}
	as := []string{"--name", "client.tenant", "--keyring", l.keyring("client.tenant", key)}
	l.run(0, append([]string{"publish", path, "rbd:rbd/hpc/tenant"}, as...))
	l.run(1, append([]string{"publish", path, "rbd:rbd/tenant"}, as...), "not permitted")
	l.run(0, append([]string{"remove", "rbd:rbd/hpc/tenant", "--force"}, as...))
	if list := l.list("rbd:rbd/hpc"); len(list) != 0 {
		l.Errorf("there is %+v", list)
	}
}
