package root

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// place is where the next root is put before it becomes the root: it may lie below /run, which moves into it.
const place = "/.next"

// Programs are what is looked for as the first process of an image.
func Programs() []string {
	return []string{"/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init"}
}

// Program finds the first process of the image at dir. Links are followed inside of the image.
func Program(dir string) (string, error) {
	for _, p := range Programs() {
		if f, err := open(dir, p); err == nil {
			st, err := f.Stat()
			f.Close()
			if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return p, nil
			}
		}
	}
	return "", fault.New(fault.NotFound, "the image has none of %s: it cannot be the root of a node", strings.Join(Programs(), ", "))
}

func open(dir, path string) (*os.File, error) {
	return safepath.OpenInRoot(dir, path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
}

// Kernel is a kernel in an image.
type Kernel struct {
	Kernel, Initrd string // paths in the image; no Initrd: ""
	kernel, initrd *os.File
}

// FindKernel finds the image's own kernel and what belongs to it: /boot/vmlinuz, /vmlinuz, or the highest version in /boot.
func FindKernel(dir string) (*Kernel, error) {
	for _, path := range kernels(dir) {
		f, err := open(dir, path)
		if err != nil {
			continue
		}
		k := &Kernel{Kernel: path, kernel: f}
		version := strings.TrimPrefix(strings.TrimPrefix(filepath.Base(path), "vmlinuz"), "-")
		for _, name := range initrds(version) {
			if i, err := open(dir, name); err == nil {
				k.Initrd, k.initrd = name, i
				break
			}
		}
		return k, nil
	}
	return nil, fault.Hintf(fault.New(fault.NotFound, "the image has no kernel: there is neither /boot/vmlinuz nor /boot/vmlinuz-VERSION"),
		"install one in the image, or use another windlass.handoff")
}

func kernels(dir string) []string {
	list := []string{"/boot/vmlinuz", "/vmlinuz"}
	boot, err := open(dir, "/boot")
	if err != nil {
		return list
	}
	defer boot.Close()
	names, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", boot.Fd()))
	if err != nil {
		return list
	}
	var found []string
	for _, n := range names {
		if strings.HasPrefix(n.Name(), "vmlinuz-") {
			found = append(found, "/boot/"+n.Name())
		}
	}
	slices.SortFunc(found, func(a, b string) int { return -natural(a, b) })
	return append(list, found...)
}

func initrds(version string) []string {
	if version == "" {
		return []string{"/boot/initrd.img", "/boot/initrd", "/initrd.img", "/boot/initramfs.img", "/boot/initramfs"}
	}
	return []string{"/boot/initrd.img-" + version, "/boot/initrd-" + version, "/boot/initramfs-" + version + ".img", "/boot/initramfs-" + version}
}

// Load gives the kernel to the running one, for Start. The command line is the new kernel's.
func (k *Kernel) Load(line string) error {
	defer k.kernel.Close()
	if k.initrd != nil {
		defer k.initrd.Close()
	}
	err := kexec.FileLoad(k.kernel, k.initrd, line)
	if err == nil {
		return nil
	}
	hint := "the kernel says more: dmesg"
	switch {
	case errors.Is(err, unix.ENOEXEC):
		hint = "it is no kernel for this machine, or one that the running kernel cannot start"
	case errors.Is(err, unix.EPERM):
		hint = "the running kernel is locked down, or kexec is switched off (kernel.kexec_load_disabled)"
	case errors.Is(err, unix.ENOSYS):
		hint = "the running kernel was built without kexec_file_load"
	case errors.Is(err, unix.EKEYREJECTED) || errors.Is(err, unix.ENODATA):
		hint = "the running kernel takes signed kernels alone"
	}
	return fault.Hintf(fault.New(fault.Unsupported, "load the image's kernel %s: %w", k.Kernel, bare(err)), "%s", hint)
}

// Start starts the kernel that was loaded. It only comes back when it failed.
func Start() error { return kexec.Reboot() }

// bare is the kernel's error without what the library says around it, if there is one.
func bare(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
