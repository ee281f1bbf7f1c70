// Package cmdline reads what the kernel's command line says to windlass as the first process of a node.
//
// It judges words alone: it touches nothing, and whatever the line holds, it gives options and warnings. A word that it does not understand
// never keeps a node from booting. What is not meant for the kernel or for windlass is kept for the container.
package cmdline
