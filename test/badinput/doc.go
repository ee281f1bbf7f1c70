// Package badinput holds the tests that send the daemon every mistake a caller can make, and run into the faults that a node can have.
package badinput
