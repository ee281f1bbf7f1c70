//go:build guest

package initboot

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/test/vm"
)

// TestInit boots guests, two at once where the machine has places for them.
func TestInit(t *testing.T) {
	bin := programs(t)
	initrd := image(t, bin)
	for _, one := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"proofs", func(t *testing.T) { proofs(t, bin) }},
		{"Debian", func(t *testing.T) { debian(t, bin, initrd) }},
		{"layer0", func(t *testing.T) { layer0(t, bin) }},
		{"digest", func(t *testing.T) { digest(t, initrd) }},
		{"switch_root", func(t *testing.T) { switchRoot(t, initrd) }},
		{"kexec", func(t *testing.T) { kexec(t, initrd) }},
		{"rescue", func(t *testing.T) { rescue(t, bin) }},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			vm.Slot(t, vm.Config{})
			one.test(t)
		})
	}
}

// definition is that of a container in an image from the web.
func definition(url, command, more string) string {
	return fmt.Sprintf(`{"name":"box","command":%q,%s"mount":{"kind":"overlay","overlay":{"lower":[{"kind":"uri","uri":{"uri":%q}}],"upper":{"size":67108864}}}}`,
		command, more, url)
}

// sleeper is an init that does nothing until it is asked to end.
const sleeper = "#!/bin/busybox sh\ntrap 'exit 0' TERM\necho box begins\nwhile :; do /bin/busybox sleep 1000 & wait $!; done\n"

// boxTree makes a directory with busybox, its init, and other files.
func boxTree(t *testing.T, init string, files map[string]string) string {
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
	if err := os.Symlink("busybox", dir+"/bin/sh"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/sbin/init", []byte(init), 0o755); err != nil {
		t.Fatal(err)
	}
	for to, from := range files {
		if out, err := exec.Command("cp", from, dir+to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// box makes a small image of such a directory.
func box(t *testing.T, init string, files map[string]string) string {
	t.Helper()
	return squashfs(t, boxTree(t, init, files))
}

// rescue boots with u-root's commands, and no modules: so there is no network either.
func rescue(t *testing.T, bin string) {
	initrd := image(t, bin, func(o *initramfs.Options) {
		o.Rescue, o.RescueCache, o.Files = true, filepath.Join(vm.Cache(), "rescue"), nil
		o.Modules, o.Preset, o.Module = "", "", nil
	})
	n := boot(t, initrd, 512, "windlass.rescue windlass.hostname=saved")
	n.await("there are no modules for the running kernel", "A shell is on the console (/bin/sh)")
	n.await("go on with the boot", "\n$ ") // gosh is ready; what was typed before it forgets
	n.types("ls /bbin/ls && echo work''s\r")
	n.await("works\n")
	n.types("exit\r")
	n.await("rescue: the shell ended with code 0", "network: there is no device that windlass.net fits")
}

// digest has a definition with a wrong digest refused, until the right one lies there. The network is a bond and a VLAN, the clock is years
// behind, and in the end somebody presses ctrl, alt and del.
func digest(t *testing.T, initrd string) {
	o := newOrigin(t)
	o.file("/box.squashfs", box(t, sleeper, nil))
	right := definition(o.url+"/box.squashfs", "/sbin/init", "")
	o.text("/box.json", right+" ")
	n := with{years: 26}.boot(t, initrd, 512, "windlass.net=bond0,dhcp,bond=eth0 windlass.net=bond0.7,10.7.0.2/24 windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json",
		fmt.Sprintf("windlass.container.digest=sha256:%x windlass.hostname=boxed", sha256.Sum256([]byte(right))), "windlass.api=http://0.0.0.0:8080")
	n.await("network: bond0 10.0.2.15/24 from 10.0.2.2, as boxed", "bond0.7: 10.7.0.2/24", "windlass.api.insecure", "has the digest", "A shell is on the console")
	n.await("clock: set to " + today() + "T") // by the web server's date
	within(t, "the boot server knows", func() bool {
		return o.reported("image", "failed", "has the digest") && o.reported("rescue", "begun", "")
	})
	n.types("/bin/busybox hostname; /bin/windlass ps -q; echo al\"\"ive")
	n.await("boxed\n", "alive\n")
	o.text("/box.json", right)
	// The end of the shell has it tried again at once. What is to be done then is left to a process that opens the console after that.
	n.types(`b=/bin/busybox; $b setsid $b sh -c 'until $b grep -q "box is ready" /run/log/windlass.log; do $b sleep 0.3; done; exec >/dev/console 2>&1; windlass logs box; windlass rm --force box' &`)
	n.types("exit")
	n.await("running: box is ready", "box begins\n", "it has ended", "deleted container")
	n.monitor("sendkey ctrl-alt-delete")
	n.await("reboot: containers are stopped", "init: reboot\n")
	n.ends()
}
