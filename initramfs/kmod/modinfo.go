package kmod

import (
	"bytes"
	"strings"
)

// Info is what a module says of itself. Names of modules are as Plain gives them.
type Info struct {
	Needs    []string // modules without which it is not loaded
	Before   []string // modules or aliases that are loaded before it, when they are there (softdep pre)
	After    []string // and after it (softdep post)
	Weak     []string // which it may ask for when it runs
	Aliases  []string // what it is asked for by, with * ? and [ ] as in file names
	Firmware []string // files that it may ask for, relative to the directory of firmware
	Magic    string   // the version of its kernel, and how that was built
}

// Release is the version of the kernel that the module is for.
func (i *Info) Release() string {
	release, _, _ := strings.Cut(i.Magic, " ")
	return release
}

// parseInfo takes the section .modinfo apart: KEY=VALUE, each with a zero behind it.
func parseInfo(section []byte) Info {
	var i Info
	for field := range bytes.SplitSeq(section, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		if !printable(value) {
			continue
		}
		switch key {
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					i.Needs = append(i.Needs, Plain(name))
				}
			}
		case "softdep":
			i.soft(value)
		case "weakdep":
			i.Weak = append(i.Weak, plainAll(strings.Fields(value))...)
		case "alias":
			if value != "" && !strings.Contains(value, " ") {
				i.Aliases = append(i.Aliases, value)
			}
		case "firmware":
			i.Firmware = append(i.Firmware, value)
		case "vermagic":
			i.Magic = value
		}
	}
	return i
}

// soft takes "pre: a b post: c" apart.
func (i *Info) soft(text string) {
	var list *[]string
	for _, word := range strings.Fields(text) {
		switch {
		case word == "pre:":
			list = &i.Before
		case word == "post:":
			list = &i.After
		case list != nil:
			*list = append(*list, Plain(word))
		}
	}
}

func plainAll(names []string) []string {
	for i, n := range names {
		names[i] = Plain(n)
	}
	return names
}

// printable refuses what would break the lines of the index.
func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
