package nfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rule says what an option of NFS can be. The names and their meaning are those of nfs(5); the kernel reads them in fs/nfs/fs_context.c.
type rule struct {
	flag     bool // it may stand alone
	value    bool // it may have a value
	min, max int  // of a number, when max is not 0
	words    []string
	list     bool   // several of words, with colons
	only     string // "3" or "4": the version that has it
}

func known() map[string]rule {
	flag := rule{flag: true}
	word := func(words ...string) rule { return rule{value: true, words: words} }
	number := func(min, max int) rule { return rule{value: true, min: min, max: max} }
	of := func(version string, r rule) rule { r.only = version; return r }
	const year = 365 * 24 * 3600
	return map[string]rule{
		"hard": flag, "soft": flag, "softerr": flag, "softreval": flag, "nosoftreval": flag,
		"timeo": number(1, 6000), "retrans": number(0, 100),
		"rsize": number(1024, 1<<20), "wsize": number(1024, 1<<20),
		"nconnect": number(1, 16), "max_connect": of("4", number(1, 16)),
		"acregmin": number(0, year), "acregmax": number(0, year), "acdirmin": number(0, year), "acdirmax": number(0, year), "actimeo": number(0, year),
		"ac": flag, "noac": flag, "acl": of("3", flag), "noacl": of("3", flag), "cto": flag, "nocto": flag,
		"lookupcache": word("all", "none", "pos", "positive"),
		"rdirplus":    {flag: true, value: true, words: []string{"none", "force"}}, "nordirplus": flag,
		"sharecache": flag, "nosharecache": flag,
		"resvport": flag, "noresvport": flag,
		"port": number(1, 65535), "proto": word("tcp", "tcp6", "rdma", "rdma6"),
		"mountport": of("3", number(1, 65535)), "mountproto": of("3", word("tcp", "tcp6", "udp", "udp6")),
		"lock": of("3", flag), "nolock": of("3", flag), "local_lock": of("3", word("all", "flock", "posix", "none")),
		"sec": {value: true, list: true, words: []string{"sys", "krb5", "krb5i", "krb5p", "none"}}, "xprtsec": word("none", "tls", "mtls"),
		"fsc":   {flag: true, value: true},
		"write": word("lazy", "eager", "wait"), "trunkdiscovery": of("4", flag), "notrunkdiscovery": of("4", flag),
	}
}

// check says what is wrong with a use of the option; "" when nothing is.
func (r rule) check(value string, hasValue bool, version string) string {
	switch {
	case r.only != "" && r.only != version[:1]:
		return "is an option of NFS " + r.only + ", and this is NFS " + version
	case !hasValue && !r.flag:
		return "needs a value: " + r.values()
	case hasValue && !r.value:
		return "takes no value"
	case !hasValue:
		return ""
	case r.max != 0:
		n, err := strconv.Atoi(value)
		if err != nil || n < r.min || n > r.max || strconv.Itoa(n) != value {
			return "must be " + r.values()
		}
		return ""
	case r.words == nil: // the tag of a cache
		if len(value) > 64 || strings.Trim(value, tagLetters) != "" || value == "" {
			return "must have a name of letters, digits, - and _"
		}
		return ""
	}
	all := []string{value}
	if r.list {
		all = strings.Split(value, ":")
	}
	for _, one := range all {
		if !slices.Contains(r.words, one) {
			return "must be " + r.values()
		}
	}
	return ""
}

const tagLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (r rule) values() string {
	switch {
	case r.max != 0:
		return fmt.Sprintf("a number from %d to %d", r.min, r.max)
	case r.list:
		return strings.Join(r.words, ", ") + ", or several with colons"
	}
	return strings.Join(r.words, ", ")
}

// refused says why an option of nfs(5) or mount(8) cannot be given; "" when nothing is known against it.
func refused(key string) string {
	switch key {
	case "vers", "nfsvers", "minorversion", "v2", "v3", "v4", "v4.0", "v4.1", "v4.2", "mountvers":
		return "is for nfs.version to say"
	case "addr", "clientaddr", "mountaddr", "mounthost", "source":
		return "is found out: the addresses of nfs.host are tried in turn"
	case "bg", "retry":
		return "would go on in the background: a mount is there when it has been answered, or there is none"
	case "udp":
		return "is not offered: over fast networks UDP loses and mixes up data, and kernels no longer have it"
	case "sloppy":
		return "would hide that the kernel does not know an option"
	case "remount", "bind", "rbind", "move", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
		return "changes a mount that exists; it is no option of a new one"
	case "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group", "nogroup", "nofail", "_netdev", "comment":
		return "is a word of /etc/fstab, not of a file system"
	}
	if strings.HasPrefix(strings.ToLower(key), "x-") {
		return "is a word for mount(8) and systemd, not of a file system"
	}
	return ""
}
