package device

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// options are mount options as the kernel wants them: those of any mount, and those of the file system.
type options struct {
	readOnly bool
	attrs    uint64
	own      []fsmount.Option
	asked    bool // own has some that the caller gave
}

// fsconfig is what the file system is made with.
func (o options) fsconfig(source string) []fsmount.Option {
	all := []fsmount.Option{{Key: "source", Value: source}}
	if o.readOnly {
		all = append(all, fsmount.Option{Key: "ro", Flag: true})
	}
	return append(all, o.own...)
}

// parseOptions reads options as mount(8) has them. An element may hold several, with commas; quotes keep a comma.
func parseOptions(fsType string, elements []string) (options, error) {
	o := options{readOnly: onlyReads(fsType)}
	for _, element := range elements {
		for _, word := range split(element) {
			if err := o.add(fsType, word); err != nil {
				return options{}, err
			}
		}
	}
	o.asked = len(o.own) > 0
	o.addDefaults(fsType)
	if o.readOnly {
		o.attrs |= unix.MOUNT_ATTR_RDONLY
	}
	return o, nil
}

// addDefaults sets what an image must not decide.
func (o *options) addDefaults(fsType string) {
	switch fsType {
	case "ext4":
		// The superblock may ask for a panic of the node when the file system is damaged.
		if !o.has("errors") {
			o.own = append(o.own, fsmount.Option{Key: "errors", Value: "remount-ro"})
		}
	case "xfs":
		// Copies of one image have one UUID; without this only the first can be mounted.
		if !o.has("nouuid") {
			o.own = append(o.own, fsmount.Option{Key: "nouuid", Flag: true})
		}
	}
}

func (o *options) has(key string) bool {
	for _, own := range o.own {
		if own.Key == key {
			return true
		}
	}
	return false
}

func (o *options) add(fsType, word string) error {
	key, value, hasValue := strings.Cut(word, "=")
	if why := refused(key, value); why != "" {
		return fault.Hintf(fault.New(fault.Invalid, "attach.mount_options: %q %s", word, why), "leave it out")
	}
	if strings.ContainsRune(word, 0) || key == "" {
		return fault.New(fault.Invalid, "attach.mount_options: %q is no option", word)
	}
	if len(value) > fsmount.MaxValue {
		return fault.New(fault.Invalid, "attach.mount_options: the value of %q has %d bytes; the kernel takes %d", key, len(value), fsmount.MaxValue)
	}
	if !hasValue && o.general(fsType, key) {
		return nil
	}
	o.own = append(o.own, fsmount.Option{Key: key, Value: value, Flag: !hasValue})
	return nil
}

// general takes the options that every mount has. A later one overrides an earlier one.
func (o *options) general(fsType, key string) bool {
	switch key {
	case "defaults", "silent", "loud":
	case "ro":
		o.readOnly = true
	case "rw": // mount(8) too mounts a squashfs read-only then
		o.readOnly = onlyReads(fsType)
	case "sync", "async", "dirsync", "lazytime", "nolazytime": // of the file system, but each has them
		o.own = append(o.own, fsmount.Option{Key: key, Flag: true})
	default:
		c, ok := fsmount.AttrChanges()[key]
		o.attrs = o.attrs&^c.Clear | c.Set
		return ok
	}
	return true
}

// refused says why an option cannot be given; "" when it can.
func refused(key, value string) string {
	switch key {
	case "loop", "offset", "sizelimit", "encryption", "partscan":
		return "is for the attachment to say: a mount has a device already"
	case "source", "device", "logdev", "rtdev", "journal_dev", "journal_path", "fsid", "domain_id":
		return "names a further device or file of the node, which a mount cannot have"
	case "remount", "bind", "rbind", "move", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
		return "changes a mount that exists; it is no option of a new one"
	case "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup", "nofail", "_netdev", "comment", "helper", "uhelper":
		return "is a word of /etc/fstab, not of a file system"
	}
	switch {
	case strings.HasPrefix(strings.ToLower(key), "x-"):
		return "is a word for mount(8) and systemd, not of a file system"
	case (key == "errors" || key == "fatal_errors") && value == "panic":
		return "would let a damaged image stop the whole node"
	}
	return ""
}

// split cuts at commas that are not within double quotes, which it takes off.
func split(element string) []string {
	var words []string
	var b strings.Builder
	quoted := false
	for _, r := range element {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ',' && !quoted:
			words = append(words, b.String())
			b.Reset()
		default:
			b.WriteRune(r)
		}
	}
	return append(words, b.String())
}
