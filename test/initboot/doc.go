// Package initboot boots guests into an initramfs of windlass, with windlass as their first process, and looks at them from outside: on the
// console, by their reports, and through their API. The tests have the build tag guest.
package initboot
