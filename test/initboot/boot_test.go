//go:build guest

package initboot

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/test/vm"
)

// definition is that of a container in an image from the web.
func definition(url, command, more string) string {
	return fmt.Sprintf(`{"name":"box","command":%q,%s"mount":{"kind":"overlay","overlay":{"lower":[{"kind":"uri","uri":{"uri":%q}}],"upper":{"size":67108864}}}}`,
		command, more, url)
}

// box makes a small image with busybox, its init, and other files.
func box(t *testing.T, init string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "sbin", "proc", "sys", "dev", "run", "tmp", "boot", "mnt", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", "/bin/busybox", dir+"/bin/busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(dir+"/sbin/init", []byte(init), 0o755); err != nil {
		t.Fatal(err)
	}
	for to, from := range files {
		if out, err := exec.Command("cp", from, dir+to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return squashfs(t, dir)
}

// TestInit boots one guest after the other.
func TestInit(t *testing.T) {
	vm.Slot(t, vm.Config{})
	bin := programs(t)
	initrd := image(t, bin)
	for name, fn := range map[string]func(*testing.T, string){
		"Debian": debian, "digest": digest, "switch_root": switchRoot, "kexec": kexec,
	} {
		t.Run(name, func(t *testing.T) { fn(t, initrd) })
	}
	t.Run("rescue", func(t *testing.T) { rescue(t, bin) })
}

// rescue boots with u-root's commands, and no modules: so there is no network either.
func rescue(t *testing.T, bin string) {
	initrd := image(t, bin, func(o *initramfs.Options) {
		o.Rescue, o.RescueCache, o.Files = true, filepath.Join(vm.Cache(), "rescue"), nil
		o.Modules, o.Preset, o.Module = "", "", nil
	})
	n := boot(t, initrd, 512, "windlass.rescue windlass.hostname=saved")
	n.await("there are no modules for the running kernel", "A shell is on the console (/bin/sh)")
	n.await("toggle key help") // gosh is ready; what was typed before it forgets
	n.types("ls /bbin/ls && echo work''s\r")
	n.await("works\n")
	n.types("exit\r")
	n.await("rescue: the shell ended with code 0", "network: there is no device that windlass.net fits")
}

// debian boots Debian with systemd, from a server that fails at first; its daemon is killed, and in the end it is switched off.
func debian(t *testing.T, initrd string) {
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
	n := boot(t, initrd, 1024, "windlass.rescue windlass.report="+o.url+"/report windlass.container="+o.url+"/debian.json windlass.config="+o.url+"/windlass.yaml",
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

	if ready := container(t, n); !ready.Ready || ready.State != "running" {
		t.Errorf("%+v", ready)
	}
	if out := n.exec(t, "tr '\\0' ' ' </proc/1/cmdline; cat /proc/sys/kernel/random/boot_id; systemctl is-system-running; hostname"); !strings.Contains(out, "ds=nocloud-net;s=http://10.0.2.2/") || !strings.Contains(out, "running") {
		t.Errorf("the container says %q", out)
	}
	before := container(t, n)
	n.exec(t, "echo '$b kill -9 $($b pidof windlass | $b tr \" \" \"\\n\" | $b grep -vx 1)' >/mnt/order.new; mv /mnt/order.new /mnt/order")
	n.await("was ended by SIGKILL", "containers go on")
	within(t, "the next daemon answers", func() bool { _, err := n.get("/container"); return err == nil })
	if after := container(t, n); after.PID != before.PID || after.State != "running" || !after.Ready {
		t.Errorf("before %+v, after %+v", before, after)
	}
	within(t, "the boot server knows that it serves again", func() bool { return o.reported("daemon", "failed", "SIGKILL") })

	n.exec(t, "echo /sbin/poweroff >/mnt/order.new; mv /mnt/order.new /mnt/order")
	n.await("poweroff: containers are stopped", "init: poweroff\n")
	n.ends()
}

// found is what the test looks at in a container.
type found struct {
	PID   int64 `json:"pid"`
	State string
	Ready bool
}

func container(t *testing.T, n *node) (c found) {
	t.Helper()
	text, err := n.get("/container?name=box")
	if err != nil {
		t.Fatal(err)
	}
	var all []found
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return all[0]
}

// exec runs a shell's line in the container.
func (n *node) exec(t *testing.T, line string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"command": []string{"/bin/sh", "-c", line}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := n.get("/container?name=box")
	var all []struct{ ID int64 }
	if err == nil {
		err = json.Unmarshal([]byte(text), &all)
	}
	if err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	out, err := n.send(http.MethodPost, fmt.Sprintf("/container/%d/exec", all[0].ID), string(body))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// digest has a definition with a wrong digest refused, until the right one lies there. The network is a bond and a VLAN.
func digest(t *testing.T, initrd string) {
	o := newOrigin(t)
	o.file("/box.squashfs", box(t, "#!/bin/busybox sh\necho box begins\nexec /bin/busybox sleep 10000\n", nil))
	right := definition(o.url+"/box.squashfs", "/sbin/init", "")
	o.text("/box.json", right+" ")
	n := boot(t, initrd, 512, "windlass.net=bond0,dhcp,bond=eth0 windlass.net=bond0.7,10.7.0.2/24 windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json",
		fmt.Sprintf("windlass.container.digest=sha256:%x windlass.hostname=boxed", sha256.Sum256([]byte(right))), "windlass.api=http://0.0.0.0:8080")
	n.await("network: bond0 10.0.2.15/24 from 10.0.2.2, as boxed", "bond0.7: 10.7.0.2/24", "windlass.api.insecure", "has the digest", "A shell is on the console")
	within(t, "the boot server knows", func() bool {
		return o.reported("image", "failed", "has the digest") && o.reported("rescue", "begun", "")
	})
	n.types("/bin/busybox hostname; /bin/windlass ps -q; echo al\"\"ive")
	n.await("boxed\n", "alive\n")
	o.text("/box.json", right)
	n.await("running: box is ready")
	n.types("/bin/windlass logs box; /bin/windlass rm --force box")
	n.await("box begins\n", "it has ended", "deleted container")
	n.types("/sbin/reboot")
	n.await("init: reboot\n")
	n.ends()
}

// switchRoot gives the node to the image.
func switchRoot(t *testing.T, initrd string) {
	o := newOrigin(t)
	o.file("/box.squashfs", box(t, `#!/bin/busybox sh
b=/bin/busybox
exec >/dev/console 2>&1
echo "image: I am $$, on $($b awk '$2 == "/" {t=$3} END {print t}' /proc/mounts)"
echo "image: $($b hostname) has $($b ip -4 -o addr show eth0 | $b awk '{print $4}')"
echo "image: processes of windlass: $($b pidof windlass | $b wc -w)"
[ -d /sys/fs/cgroup/init.scope ] || $b mkdir /sys/fs/cgroup/test && echo "image: cgroups can be made"
echo x >/written && echo "image: it can be written"
$b poweroff -f
`, nil))
	o.text("/box.json", definition(o.url+"/box.squashfs", "/sbin/init", ""))
	n := boot(t, initrd, 512, "windlass.handoff=switch_root windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json windlass.hostname=switched")
	n.await("handoff: switch_root to /sbin/init", "image: I am 1, on overlay", "image: switched has 10.0.2.15/24", "image: processes of windlass: 0", "image: cgroups can be made", "image: it can be written")
	n.ends()
	if !o.reported("handoff", "done", "switch_root") {
		t.Error("the boot server was not told")
	}
}

// kexec starts the kernel of the image.
func kexec(t *testing.T, initrd string) {
	o := newOrigin(t)
	dir := t.TempDir()
	script := "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\nread -r line </proc/cmdline\necho \"next: $line\"\n/bin/busybox poweroff -f\n"
	for _, d := range []string{"bin", "dev", "proc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/init", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `set -e; cd "$1"; cp /bin/busybox bin/; mknod dev/console c 5 1; busybox find . | busybox cpio -o -H newc >"$1.cpio"`, "sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { os.Remove(dir + ".cpio") })
	o.file("/box.squashfs", box(t, "", map[string]string{"/boot/vmlinuz": filepath.Join(vm.Cache(), "kernel/vmlinuz"), "/boot/initrd": dir + ".cpio"}))
	o.text("/box.json", definition(o.url+"/box.squashfs", "/sbin/init", ""))
	n := boot(t, initrd, 768, "windlass.handoff=kexec windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json hello=world")
	n.await("handoff: kexec of /boot/vmlinuz with /boot/initrd", "next: console=ttyS0", "hello=world")
	n.ends()
	if text := n.text(); strings.Contains(text[strings.LastIndex(text, "next: "):], "windlass.handoff") {
		t.Error("the next kernel would do the same again")
	}
	if !o.reported("handoff", "done", "kexec") {
		t.Error("the boot server was not told")
	}
}
