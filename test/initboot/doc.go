// Package initboot boots guests into an initramfs of windlass, with windlass as their first process, and looks at them from outside: on the
// console, by their reports, and through their API. One boots into Kraken's layer0 with windlass in the forerunner's place; layer0 is a module
// of its own with Kraken's programs. The tests have the build tag guest.
package initboot
