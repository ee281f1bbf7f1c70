// Package bootstage names the stages that a node goes through from power-on to its container, and what it reports of them.
//
// The boot server sees the first of them by itself; the node's init reports the others. Both take the names from here. It owns nothing.
package bootstage

import "slices"

// Stage is the name of one stage.
type Stage string

// The stages, in the order in which a node passes them.
const (
	Discover  Stage = "discover"  // firmware asked for an address
	Offer     Stage = "offer"     // it was offered one
	Lease     Stage = "lease"     // it took it
	Program   Stage = "program"   // it fetched its boot program, such as iPXE
	Script    Stage = "script"    // the boot program asked what to boot
	Kernel    Stage = "kernel"    // it fetched the kernel
	Initramfs Stage = "initramfs" // and the last of what is unpacked at start
	Init      Stage = "init"      // reported from here on: init runs
	Modules   Stage = "modules"   // drivers are loaded
	Network   Stage = "network"   // the node has its address
	Clock     Stage = "clock"     // it knows the time
	Config    Stage = "config"    // it has its configuration and definitions
	Daemon    Stage = "daemon"    // windlass serves on it; the last stage of a node that waits for orders
	Image     Stage = "image"     // its image is being fetched
	Container Stage = "container" // its container is being raised
	Running   Stage = "running"   // the container runs; done when it is ready
	Handoff   Stage = "handoff"   // the node goes on without init: switch_root or kexec
	Rescue    Stage = "rescue"    // it cannot go on: a person is asked for
)

// State is how far a node is within a stage.
type State string

// The states of a stage.
const (
	Begun  State = "begun"
	Done   State = "done"
	Failed State = "failed" // it may be tried again
)

// All gives the stages in their order.
func All() []Stage {
	return []Stage{Discover, Offer, Lease, Program, Script, Kernel, Initramfs, Init, Modules, Network, Clock, Config, Daemon, Image, Container,
		Running, Handoff, Rescue}
}

// Rank is the place of a stage in the order, from 0; -1 is none of them.
func (s Stage) Rank() int { return slices.Index(All(), s) }

// Before reports whether s comes before other. What is no stage comes before all.
func (s Stage) Before(other Stage) bool { return s.Rank() < other.Rank() }
