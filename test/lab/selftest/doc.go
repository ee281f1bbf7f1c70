// Package selftest tests the lab itself, from within its guest: that modules are there, and that all servers and their control answer.
package selftest
