package cmdline

import "strings"

// Words takes a command line apart at white space outside of double quotes, as the kernel does, and takes the quotes off: around a word, and
// around a value.
func Words(text string) (list []string) {
	for {
		text = strings.TrimLeft(text, " \t\r\n\x00")
		if text == "" {
			return list
		}
		end, quoted := 0, false
		for ; end < len(text) && (quoted || !strings.ContainsRune(" \t\r\n\x00", rune(text[end]))); end++ {
			if text[end] == '"' {
				quoted = !quoted
			}
		}
		list, text = append(list, unquote(text[:end])), text[end:]
	}
}

func unquote(word string) string {
	if inner, ok := strings.CutPrefix(word, `"`); ok {
		return strings.TrimSuffix(inner, `"`)
	}
	key, value, _ := strings.Cut(word, "=")
	if inner, ok := strings.CutPrefix(value, `"`); ok {
		return key + "=" + strings.TrimSuffix(inner, `"`)
	}
	return word
}

// Line makes a command line of words. Those with white space are quoted.
func Line(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if strings.ContainsAny(w, " \t\r\n\x00") || w == "" {
			quoted[i] = `"` + w + `"`
		}
	}
	return strings.Join(quoted, " ")
}

// pass gives the words that are for whom the node boots. given is what the kernel gave to its first process, as arguments and environment:
// what it did not know itself. It never gives those with a dot, which could be for a module; of them, some are known not to be.
func pass(words, given []string) (list []string) {
	unknown := map[string]bool{}
	for _, g := range given {
		unknown[g] = true
	}
	for _, w := range words {
		key, _, _ := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(key, prefix) || key == "windlass" || loaders(key):
		case unknown[w] || userland(key):
			list = append(list, w)
		}
	}
	return list
}

// loaders says whether a word is a boot loader's or is understood here, though the kernel may not know it.
func loaders(key string) bool {
	switch key {
	case "BOOT_IMAGE", "BOOTIF", "initrd", "ip", "root", "rootfstype", "rootflags", "ro", "rw", "--", "---":
		return true
	}
	return false
}

// userland says whether a word with a dot is for a program of the image.
func userland(key string) bool {
	for _, p := range []string{"systemd.", "udev.", "cloud-init.", "locale.", "vconsole.", "fsck.", "quotacheck.", "luks."} {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}
