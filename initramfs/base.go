package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/pem"
	"errors"
	"os"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Where things lie on the node. The daemon finds the shim beside its own program.
const (
	windlassPath = "bin/windlass"
	shimPath     = "bin/windlass-shim"
	caPath       = "etc/ssl/certs/ca-certificates.crt"
)

// base makes the layer without which nothing runs: windlass, under all the names that it acts by, and what a root must have.
func base(o *Options, machine elf.Machine) (*cpio.Tree, error) {
	t := &cpio.Tree{}
	if err := errors.Join(directories(t), devices(t), accounts(t)); err != nil {
		return nil, err
	}
	if err := programs(t, o, machine); err != nil {
		return nil, err
	}
	// /sbin/modprobe is what the kernel calls; some distributions' kernels look in /usr/sbin.
	err := errors.Join(t.Link("init", windlassPath), t.Link("sbin/modprobe", "../"+windlassPath), t.Link("usr/sbin/modprobe", "../../"+windlassPath))
	if err != nil || o.CA == "" {
		return t, err
	}
	data, err := authorities(o.CA)
	if err != nil {
		return nil, err
	}
	return t, t.File(caPath, 0o644, data)
}

// programs adds windlass and its shim.
func programs(t *cpio.Tree, o *Options, machine elf.Machine) error {
	for _, p := range []struct{ name, file, path string }{{"windlass", o.Windlass, windlassPath}, {"windlass-shim", o.Shim, shimPath}} {
		data, err := program(p.name, p.file, machine)
		if err != nil {
			return err
		}
		if err := t.File(p.path, 0o755, data); err != nil {
			return err
		}
	}
	return nil
}

func directories(t *cpio.Tree) error {
	var errs []error
	for _, d := range []string{"bin", "dev", "etc/windlass", "lib/modules", "mnt", "proc", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var/cache", "var/lib", "var/log"} {
		errs = append(errs, t.Dir(d, 0o755))
	}
	errs = append(errs, t.Dir("root", 0o700), t.Dir("tmp", 0o1777), t.Dir("var/tmp", 0o1777), t.Link("var/run", "../run"))
	return errors.Join(errs...)
}

// devices adds what must be there before anybody mounts /dev: without a console the kernel gives init no stdout.
func devices(t *cpio.Tree) error {
	return errors.Join(t.Device("dev/console", 0o600, 5, 1), t.Device("dev/null", 0o666, 1, 3), t.Device("dev/kmsg", 0o644, 1, 11))
}

// accounts adds the files by which programs know root.
func accounts(t *cpio.Tree) error {
	var errs []error
	for name, text := range map[string]string{
		"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":         "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		errs = append(errs, t.File(name, 0o644, []byte(text)))
	}
	return errors.Join(errs...)
}

// authorities reads a file of certificates.
func authorities(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, unreadable("the certificate authorities", err)
	}
	if block, _ := pem.Decode(data); block == nil || !bytes.Contains(data, []byte("BEGIN CERTIFICATE")) {
		return nil, fault.New(fault.Invalid, "%s holds no certificate in PEM", file)
	}
	if bytes.Contains(data, []byte("PRIVATE KEY")) {
		return nil, fault.New(fault.Invalid, "%s holds a private key: name a file of certificates alone", file)
	}
	return data, nil
}
