//go:build guest

package initboot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// debian boots Debian with systemd, from a server that fails at first; its daemon is killed, and in the end it is switched off, with a container on
// a disk and one of chunkfs beside.
func debian(t *testing.T, bin, initrd string) {
	o := newOrigin(t)
	o.file("/debian.squashfs", filepath.Join(vm.Cache(), "debian.squashfs"))
	text := definition(o.url+"/debian.squashfs", "/sbin/init", `"systemd":true,"binds":[{"source":"/tmp","target":"/mnt"}],`)
	var asked atomic.Int32
	o.set("/debian.json", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && asked.Add(1) <= 6 { // more than one round of tries
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, text)
	})
	o.text("/windlass.yaml", "log_level: debug\n")
	d := newDisk(t)
	n := with{disk: d.file}.boot(t, initrd, 1024, "windlass.rescue windlass.report="+o.url+"/report windlass.container="+o.url+"/debian.json windlass.config="+o.url+"/windlass.yaml",
		"windlass.api=http://0.0.0.0:8080 windlass.api.insecure ds=nocloud-net;s=http://10.0.2.2/ windlass.contaner=x")
	n.await("A shell is on the console", "did you mean windlass.container?")
	// What the test does on the node is ordered through /tmp, which the container sees.
	n.types(`b=/bin/busybox; (while :; do $b sleep 0.2; [ -e /tmp/order ] && . /tmp/order && $b rm -f /tmp/order; done) & echo be""gun`)
	n.await("begun\n")
	n.types("exit")
	n.await("rescue: the shell ended with code 0", "network: eth0 10.0.2.15/24 from 10.0.2.2", "500", "running: box is ready")
	for _, stage := range []string{"init", "modules", "network", "clock", "config", "daemon", "image", "container", "running"} {
		within(t, "the boot server knows of "+stage, func() bool { return o.reported(stage, "done", "") })
	}
	if !o.reported("image", "failed", "500") {
		t.Error("the boot server was not told of the failures")
	}

	if ready := n.container(t); !ready.Ready || ready.State != "running" {
		t.Errorf("%+v", ready)
	}
	if out := n.exec(t, "box", "tr '\\0' ' ' </proc/1/cmdline; cat /proc/sys/kernel/random/boot_id; systemctl is-system-running; hostname"); !strings.Contains(out, "ds=nocloud-net;s=http://10.0.2.2/") || !strings.Contains(out, "running") {
		t.Errorf("the container says %q", out)
	}
	killed(t, o, n)
	lazily(t, o, n, bin)
	d.raise(t, n)
	farewell(t, o, n)
	d.wasLeft(t)
}

// killed has the daemon killed: containers go on, and the next one knows them.
func killed(t *testing.T, o *origin, n *node) {
	t.Helper()
	before := n.container(t)
	n.order(t, `$b kill -9 $($b pidof windlass | $b tr " " "\n" | $b grep -vx 1)`)
	n.await("was ended by SIGKILL", "containers go on")
	within(t, "the next daemon answers", func() bool { _, err := n.get("/container"); return err == nil })
	if after := n.container(t); after.PID != before.PID || after.State != "running" || !after.Ready {
		t.Errorf("before %+v, after %+v", before, after)
	}
	within(t, "the boot server knows that it serves again", func() bool { return o.reported("daemon", "failed", "SIGKILL") })
}

// lazily raises a container from a chunkfs: FUSE comes with the preset minimal, and nobody has asked for it before.
func lazily(t *testing.T, o *origin, n *node, bin string) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store")
	run(t, ".", bin+"/windlass", "image", "build", boxTree(t, sleeper, nil), "-o", store, "--tag", "box", "--level", "1")
	o.set("/store/", http.StripPrefix("/store", http.FileServer(http.Dir(store))).ServeHTTP)
	n.create(t, `{"name":"lazy","command":"/sbin/init","state":"running","mount":{"kind":"overlay","overlay":{"lower":[{"kind":"chunkfs","chunkfs":{`+
		`"image":"box","origins":[{"url":"`+o.url+`/store"}]}}],"upper":{"size":16777216}}}}`)
	if out := n.exec(t, "lazy", "/bin/busybox cat /sbin/init"); !strings.Contains(out, "box begins") {
		t.Errorf("the container of chunkfs says %q", out)
	}
}

// disk is one of the machine, with a container's root on it.
type disk struct{ file string }

func newDisk(t *testing.T) disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.ext4")
	run(t, ".", "mke2fs", "-q", "-t", "ext4", "-d", boxTree(t, sleeper, nil), file, "32M")
	return disk{file}
}

// dirty says whether the file system is mounted, or was not unmounted.
func (d disk) dirty(t *testing.T) bool {
	t.Helper()
	return strings.Contains(run(t, ".", "dumpe2fs", "-h", d.file), "needs_recovery")
}

// raise starts a container on the disk.
func (d disk) raise(t *testing.T, n *node) {
	t.Helper()
	n.create(t, `{"name":"disk","command":"/sbin/init","state":"running","mount":{"kind":"attach","attach":{"fs_type":"ext4","attach":{"kind":"local","local":{"path":"/dev/vda"}}}}}`)
	n.exec(t, "disk", "echo kept >/kept; /bin/busybox sync")
	if !d.dirty(t) {
		t.Error("the disk is not seen to be mounted, so nothing will be seen of its end")
	}
}

// wasLeft holds that the container's chain was taken down before the machine ended.
func (d disk) wasLeft(t *testing.T) {
	t.Helper()
	if d.dirty(t) {
		t.Error("the disk was mounted when the machine was switched off")
	}
	if out, err := exec.Command("debugfs", "-R", "cat /kept", d.file).Output(); err != nil || string(out) != "kept\n" {
		t.Errorf("on the disk: %v, %q", err, out)
	}
}

// farewell switches the machine off; the container's systemd stops what it runs before.
func farewell(t *testing.T, o *origin, n *node) {
	t.Helper()
	stopped := make(chan string, 1)
	o.set("/says", func(_ http.ResponseWriter, r *http.Request) { stopped <- r.URL.RawQuery })
	n.exec(t, "box", "printf '%s\\n' '[Service]' Type=oneshot RemainAfterExit=yes ExecStart=/bin/true 'ExecStop=/bin/bash /run/bye.sh' >/run/systemd/system/bye.service; cat >/run/bye.sh <<'E'\n"+
		says(o, "stopped")+"\nE\nsystemctl daemon-reload && systemctl start bye.service && echo started")
	n.order(t, "/bin/windlass poweroff")
	n.await("poweroff: containers are stopped", "init: poweroff\n")
	n.ends()
	select {
	case <-stopped:
	default:
		t.Error("the container's systemd did not stop its services")
	}
}

// found is what the test looks at in a container.
type found struct {
	ID    int64 `json:"id"`
	PID   int64 `json:"pid"`
	State string
	Ready bool
}

// find looks at a container.
func (n *node) find(t *testing.T, name string) (c found) {
	t.Helper()
	text, err := n.get("/container?name=" + name)
	if err != nil {
		t.Fatal(err)
	}
	var all []found
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return all[0]
}

func (n *node) container(t *testing.T) found {
	t.Helper()
	return n.find(t, "box")
}

// create raises a container.
func (n *node) create(t *testing.T, text string) {
	t.Helper()
	if answer, err := n.send(http.MethodPost, "/container", text); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
}

// exec runs a shell's line in a container.
func (n *node) exec(t *testing.T, name, line string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"command": []string{"/bin/sh", "-c", line}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.send(http.MethodPost, fmt.Sprintf("/container/%d/exec", n.find(t, name).ID), string(body))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// order has the shell on the console run a line.
func (n *node) order(t *testing.T, line string) {
	t.Helper()
	n.exec(t, "box", "cat >/mnt/order.new <<'E'\n"+line+"\nE\nmv /mnt/order.new /mnt/order")
}
