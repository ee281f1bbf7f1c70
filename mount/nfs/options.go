package nfs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/nearest"
)

// options are those of a mount, as the kernel wants them.
type options struct {
	readOnly, readWrite bool
	attrs               uint64
	own                 []fsmount.Option  // of NFS, as the caller gave them; proto aside
	proto               string            // "" for what the address asks for
	said                map[string]string // every option of NFS that was given, with its value
}

// parseOptions reads options as mount(8) and nfs(5) have them. An element may hold several, with commas. Every one is known: the kernel
// would take some that undo what this driver does, and says little of why it refuses others. version is the first to be tried.
func parseOptions(elements []string, version string) (options, error) {
	o := options{said: map[string]string{}}
	for _, element := range elements {
		for word := range strings.SplitSeq(element, ",") {
			if err := o.add(word, version); err != nil {
				return options{}, err
			}
		}
	}
	if o.readOnly && o.readWrite {
		return options{}, fault.New(fault.Invalid, "nfs.options has both ro and rw")
	}
	return o, o.contradictions()
}

func (o *options) add(word, version string) error {
	key, value, hasValue := strings.Cut(word, "=")
	if key == "tcp" || key == "rdma" {
		key, value, hasValue = "proto", key, true
	}
	switch {
	case key == "" || strings.ContainsRune(word, 0):
		return fault.New(fault.Invalid, "nfs.options: %q is no option", word)
	case slices.Contains([]string{"defaults", "fg", "intr", "nointr"}, key) && !hasValue:
		return nil // as it is anyway
	case !hasValue && o.general(key):
		return nil
	}
	if why := refused(key); why != "" {
		return fault.Hintf(fault.New(fault.Invalid, "nfs.options: %q %s", word, why), "leave it out")
	}
	r, ok := known()[key]
	if !ok {
		return unknown(key)
	}
	if why := r.check(value, hasValue, version); why != "" {
		return fault.New(fault.Invalid, "nfs.options: %q %s", word, why)
	}
	if _, twice := o.said[key]; twice {
		return fault.New(fault.Invalid, "nfs.options has %s twice", key)
	}
	o.said[key] = value
	if key == "proto" {
		o.proto = value
		return nil
	}
	o.own = append(o.own, fsmount.Option{Key: key, Value: value, Flag: !hasValue})
	return nil
}

func unknown(key string) error {
	err := fault.New(fault.Invalid, "nfs.options: there is no option %q", key)
	names := slices.Sorted(maps.Keys(known()))
	for name := range fsmount.AttrChanges() {
		names = append(names, name)
	}
	if near := nearest.To(key, names); len(near) > 0 {
		return fault.Hintf(err, "is it %s?", strings.Join(near, ", or "))
	}
	return fault.Hintf(err, "docs/mounts/nfs.md lists those that there are")
}

// contradictions finds options that cannot stand together.
func (o *options) contradictions() error {
	for _, group := range [][]string{{"hard", "soft", "softerr"}, {"ac", "noac"}, {"acl", "noacl"}, {"cto", "nocto"}, {"lock", "nolock"},
		{"nolock", "local_lock"}, {"rdirplus", "nordirplus"}, {"resvport", "noresvport"}, {"sharecache", "nosharecache"},
		{"trunkdiscovery", "notrunkdiscovery"}, {"softreval", "nosoftreval"}, {"actimeo", "noac"}} {
		var both []string
		for _, key := range group {
			if _, ok := o.said[key]; ok {
				both = append(both, key)
			}
		}
		if len(both) > 1 {
			return fault.New(fault.Invalid, "nfs.options has both %s and %s", both[0], both[1])
		}
	}
	return nil
}

func (o options) has(keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { _, ok := o.said[key]; return ok })
}

// all are the options of a mount by a version, but those that depend on the address: docs/mounts/nfs.md says why the defaults are so.
func (o options) all(version string) []fsmount.Option {
	opts := slices.Clone(o.own)
	flag := func(key string) { opts = append(opts, fsmount.Option{Key: key, Flag: true}) }
	if o.readOnly {
		flag("ro")
	}
	if !o.has("hard", "soft", "softerr") {
		flag("hard")
	}
	if !o.has("timeo") {
		opts = append(opts, fsmount.Option{Key: "timeo", Value: fmt.Sprint(defaultTimeo)})
	}
	if !o.has("retrans") {
		opts = append(opts, fsmount.Option{Key: "retrans", Value: fmt.Sprint(defaultRetrans)})
	}
	if !o.has("sharecache", "nosharecache") {
		flag("nosharecache")
	}
	if version == "3" && !o.has("lock", "nolock", "local_lock") {
		flag("nolock")
	}
	return opts
}

// A call that has no answer is sent again after defaultTimeo tenths of a second, then ever later; after defaultRetrans times the connection is
// made anew.
const (
	defaultTimeo   = 100
	defaultRetrans = 3
)

// mountAttrs are the MOUNT_ATTR_* bits.
func (o options) mountAttrs() uint64 {
	if o.readOnly {
		return o.attrs | unix.MOUNT_ATTR_RDONLY
	}
	return o.attrs
}

// general takes the options that every mount has. A later one overrides an earlier one, but of ro and rw.
func (o *options) general(key string) bool {
	switch key {
	case "ro":
		o.readOnly = true
		return true
	case "rw":
		o.readWrite = true
		return true
	case "sync", "async", "dirsync": // of the file system
		o.own = append(o.own, fsmount.Option{Key: key, Flag: true})
		return true
	}
	c, ok := fsmount.AttrChanges()[key]
	o.attrs = o.attrs&^c.Clear | c.Set
	return ok
}
