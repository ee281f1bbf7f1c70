// Package guest runs tests of other packages on another kernel: Debian 12's own, with cgroup version 2 alone, in a machine that QEMU emulates.
// What the machine that runs `make test` is like, such as hybrid cgroups or a kernel newer than those of clusters, is not the only truth then.
//
// It owns the list of what runs there; test/vm owns the machine. It holds no test of windlass itself. The tests need the build tag guest.
package guest
