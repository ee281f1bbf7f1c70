// Package vm boots Debian's own kernel in a machine that QEMU emulates and runs tests of other packages there, each of which is a subtest
// here. KVM is not used, since it is not everywhere.
//
// It owns the guest: the initial file system, which it writes itself, the modules, the disks, the emulator, its two serial lines and the
// slots, of which a machine that runs tests has two. Kernel and Debian are what test/kernel.sh and test/rootfs.sh keep. It holds no test:
// test/guest and test/lab say what runs.
package vm
