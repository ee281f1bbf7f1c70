//go:build guest

package initboot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// switchRoot gives the node to the image. Its address stands on the command line, as the kernel has it.
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
	n := boot(t, initrd, 512, "windlass.handoff=switch_root windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json ip=10.0.2.15::10.0.2.2:255.255.255.0:switched:eth0:none")
	n.await("handoff: switch_root to /sbin/init", "image: I am 1, on overlay", "image: switched has 10.0.2.15/24", "image: processes of windlass: 0", "image: cgroups can be made", "image: it can be written")
	n.ends()
	if !o.reported("handoff", "done", "switch_root") {
		t.Error("the boot server was not told")
	}
}

// kexec starts the kernel of the image. There is nothing but IPv6 on the wire.
func kexec(t *testing.T, initrd string) {
	o := newOrigin6(t)
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
	n := with{ipv6: true}.boot(t, initrd, 768, "windlass.handoff=kexec windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json hello=world")
	n.await("network: eth0 fec0::", "from a router", "handoff: kexec of /boot/vmlinuz with /boot/initrd", "next: console=ttyS0", "hello=world")
	n.ends()
	if text := n.text(); strings.Contains(text[strings.LastIndex(text, "next: "):], "windlass.handoff") {
		t.Error("the next kernel would do the same again")
	}
	if !o.reported("handoff", "done", "kexec") {
		t.Error("the boot server was not told")
	}
}
