// Package kmod finds the kernel modules that an initramfs needs, and loads them on the node.
//
// It asks the modules themselves (.modinfo) what they need, which of the lists that depmod makes must not be there. What is packed is
// described by an index of our own, which lies beside the modules; Loader works by it, on a node that has neither depmod nor kmod. It owns
// the index and the presets; it writes no archives.
package kmod

import "strings"

// Plain is the name of a module as the kernel has it: file names, commands and soft dependencies may have - for _.
func Plain(name string) string { return strings.ReplaceAll(name, "-", "_") }
