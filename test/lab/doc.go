// Package lab runs tests of other packages against real storage servers, on a kernel with the modules of RBD, iSCSI and NFS: Debian's own, in
// a guest of test/vm.
//
// It owns the network that guest and servers share, the list of packages whose tests run there, and the lab's directory. Everything lives in
// namespaces of its own (test/lab/netns) and dies with them, however the program ends. The servers are those of test/lab/servers; tests reach
// them by test/lab/control. The tests need the build tag lab, and root; test/lab/run.sh runs them.
package lab
