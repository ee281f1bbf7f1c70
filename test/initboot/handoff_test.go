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
