// Package netboot boots emulated machines from power-on, over the network, until a container runs on them: firmware, boot program, kernel,
// windlass as init, image over HTTP. Boot servers and machines are on two wires, in namespaces of their own, so that two boots can go on at
// once. The tests look at the machines from outside only: through their REST API, what the boot server knows of them, and their console.
// They have the build tag guest.
package netboot
