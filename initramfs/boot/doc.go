// Package boot is the first process of a node that was booted into an initramfs of windlass.
//
// It makes the node fit to live in, loads drivers, brings up the network, sets the clock, starts the daemon and keeps it, has the daemon raise
// the container that the kernel's command line names, or hands the node over to it. What fails is told on the console and to the boot server,
// and tried again: a node is never given up. It ends only when the node does.
package boot
