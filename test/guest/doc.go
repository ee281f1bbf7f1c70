// Package guest runs tests of other packages on another kernel: Debian 12's own, with cgroup version 2 alone, in a machine that QEMU emulates.
// What the machine that runs `make test` is like, such as hybrid cgroups or a kernel newer than those of clusters, is not the only truth then.
//
// It owns the guest: the initial file system, which it writes itself, the disks, the emulator and the reading of its serial line, on which the
// tests' results come as they come from `go test`, so each is a subtest here. It holds no test of windlass itself. The tests need the build tag
// guest; KVM is not used, since it is not everywhere.
package guest
