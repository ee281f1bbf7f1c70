// Package journal tells how a boot goes: on the console, in a file, and to the boot server.
//
// A console can be slow or stuck and a boot server gone; the boot waits for neither.
package journal
