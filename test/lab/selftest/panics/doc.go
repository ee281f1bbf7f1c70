// Package panics has a test that ends the guest by a panic of its kernel, for a test of test/lab to see what is said of it. It is in no list.
package panics
