package kmod

import (
	"strings"
)

// Options say how modules are loaded. The zero value has none.
type Options struct {
	Params map[string][]string // plain name of a module: its parameters, PARAM=VALUE or PARAM
	Block  map[string]bool     // plain names of modules that are not loaded for an alias
}

// CommandLine takes the options out of the kernel's command line: words MODULE.PARAM[=VALUE], of which there may be those for others, and
// modprobe.blacklist=MODULE,…. A value with spaces stands in double quotes. What follows -- is not the kernel's.
func CommandLine(text string) Options {
	o := Options{Params: map[string][]string{}, Block: map[string]bool{}}
	for _, word := range words(text) {
		if word == "--" {
			break
		}
		key, value, _ := strings.Cut(word, "=")
		module, param, ok := strings.Cut(key, ".")
		if !ok || param == "" || !name(module) {
			continue
		}
		if Plain(key) == "modprobe.blacklist" {
			for m := range strings.SplitSeq(value, ",") {
				o.Block[Plain(m)] = true
			}
			continue
		}
		o.Params[Plain(module)] = append(o.Params[Plain(module)], strings.TrimPrefix(word, module+"."))
	}
	return o
}

// words takes a command line apart at spaces outside of double quotes, as the kernel does. Quotes around a whole word are taken off, so
// that a=" b", "a= b" and a= followed by a quoted value are the same; those within a word stay, for the kernel takes them off itself.
func words(text string) (list []string) {
	for {
		text = strings.TrimLeft(text, " \t\n")
		if text == "" {
			return list
		}
		end, quoted := 0, false
		for ; end < len(text) && (quoted || !strings.ContainsRune(" \t\n", rune(text[end]))); end++ {
			if text[end] == '"' {
				quoted = !quoted
			}
		}
		list, text = append(list, unquote(text[:end])), text[end:]
	}
}

// unquote makes PARAM="VALUE" of "PARAM=VALUE".
func unquote(word string) string {
	inner, ok := strings.CutPrefix(word, `"`)
	if !ok {
		return word
	}
	inner = strings.TrimSuffix(inner, `"`)
	key, value, ok := strings.Cut(inner, "=")
	if !ok || !strings.ContainsAny(value, " \t\n") {
		return inner
	}
	return key + `="` + value + `"`
}

// name says whether the text can be the name of a module.
func name(text string) bool {
	for _, c := range []byte(text) {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return text != ""
}
