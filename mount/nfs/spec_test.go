package nfs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// spec makes a mount of host:path; version and options as given.
func spec(host, path, version string, options ...string) *models.Mount {
	part := &models.MountNfs{Host: &host, Path: &path, Options: options}
	if version != "" {
		part.Version = &version
	}
	return &models.Mount{Kind: models.MountKindNfs, Nfs: part}
}

// words writes what the kernel is told as mount(8) would.
func words(t *testing.T, m *models.Mount, addr, client string) (fsType, text string) {
	t.Helper()
	r, err := parse(m)
	if err != nil {
		t.Fatalf("%v (%s)", err, fault.HintOf(err))
	}
	c := netip.Addr{}
	if client != "" {
		c = netip.MustParseAddr(client)
	}
	a := attempt{r, netip.MustParseAddr(addr), r.versions[0]}
	fsType, opts := a.options(c)
	var all []string
	for _, o := range opts {
		all = append(all, o.String())
	}
	return fsType, strings.Join(all, " ")
}

func TestWhatTheKernelIsTold(t *testing.T) {
	const defaults = " hard timeo=100 retrans=3 nosharecache"
	yes := true
	ro := spec("10.0.0.1", "/images", "4.1")
	ro.Nfs.Ro = &yes
	for what, c := range map[string]struct {
		spec         *models.Mount
		addr, client string
		fsType, want string
	}{
		"the least": {spec("10.0.0.1", "/images", ""), "10.0.0.1", "10.0.0.2", "nfs4",
			"source=10.0.0.1:/images vers=4.2 proto=tcp addr=10.0.0.1 clientaddr=10.0.0.2" + defaults},
		"read-only": {ro, "10.0.0.1", "10.0.0.2", "nfs4",
			"source=10.0.0.1:/images vers=4.1 proto=tcp addr=10.0.0.1 clientaddr=10.0.0.2 ro" + defaults},
		"NFS 3": {spec("10.0.0.1", "/images", "3"), "10.0.0.1", "", "nfs",
			"source=10.0.0.1:/images vers=3 proto=tcp addr=10.0.0.1" + defaults + " nolock"},
		"NFS 3 with locks": {spec("10.0.0.1", "/images", "3", "lock", "mountport=20048", "mountproto=udp"), "10.0.0.1", "", "nfs",
			"source=10.0.0.1:/images vers=3 proto=tcp addr=10.0.0.1 lock mountport=20048 mountproto=udp" + defaults},
		"IPv6": {spec("2001:db8::1", "/a:b, c", "4.0"), "2001:db8::1", "2001:db8::2", "nfs4",
			"source=[2001:db8::1]:/a:b, c vers=4.0 proto=tcp6 addr=2001:db8::1 clientaddr=2001:db8::2" + defaults},
		"IPv6 in brackets, of one link": {spec("[fe80::1%eth0]", "/x", "4.2"), "fe80::1%eth0", "fe80::2", "nfs4",
			"source=[fe80::1%eth0]:/x vers=4.2 proto=tcp6 addr=fe80::1%eth0 clientaddr=fe80::2" + defaults},
		"IPv4 in IPv6": {spec("::ffff:10.0.0.1", "/x", "4.2"), "10.0.0.1", "10.0.0.2", "nfs4",
			"source=10.0.0.1:/x vers=4.2 proto=tcp addr=10.0.0.1 clientaddr=10.0.0.2" + defaults},
		"a name": {spec("storage-1.example.org", "/x", "4.2"), "2001:db8::1", "2001:db8::2", "nfs4",
			"source=storage-1.example.org:/x vers=4.2 proto=tcp6 addr=2001:db8::1 clientaddr=2001:db8::2" + defaults},
		"own ways": {spec("10.0.0.1", "/x", "4.2", "softerr,timeo=50", "retrans=2", "sharecache", "tcp", "fg,nconnect=4", "sec=krb5:sys", "sync", "fsc=tag-1"),
			"10.0.0.1", "10.0.0.2", "nfs4",
			"source=10.0.0.1:/x vers=4.2 proto=tcp addr=10.0.0.1 clientaddr=10.0.0.2 softerr timeo=50 retrans=2 sharecache nconnect=4 sec=krb5:sys sync fsc=tag-1"},
	} {
		t.Run(what, func(t *testing.T) {
			if fsType, got := words(t, c.spec, c.addr, c.client); fsType != c.fsType || got != c.want {
				t.Errorf("%s %s\nwant %s %s", fsType, got, c.fsType, c.want)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for version, want := range map[string]string{"": "4.2 4.1 4.0", "4": "4.2 4.1 4.0", "4.2": "4.2", "4.0": "4.0", "3": "3"} {
		if r, err := parse(spec("10.0.0.1", "/x", version)); err != nil || strings.Join(r.versions, " ") != want {
			t.Errorf("%q gives %v, %v", version, r.versions, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	r, err := parse(spec("10.0.0.1", "/x", "", "ro,nodev", "noatime", "relatime", "nosuid", "suid"))
	if want := uint64(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV); err != nil || r.mountAttrs() != want || !r.readOnly {
		t.Errorf("%#x, %v; want %#x", r.mountAttrs(), err, want)
	}
}

func TestWhatIsRefused(t *testing.T) {
	yes := true
	roAndRW := spec("10.0.0.1", "/x", "", "rw")
	roAndRW.Nfs.Ro = &yes
	opts := func(options ...string) *models.Mount { return spec("10.0.0.1", "/x", "", options...) }
	for _, c := range []struct {
		spec       *models.Mount
		says, hint string
	}{
		{nil, "nfs is missing", ""},
		{&models.Mount{}, "nfs is missing", ""},
		{&models.Mount{Nfs: &models.MountNfs{}}, "nfs.host is missing", ""},
		{&models.Mount{Nfs: &models.MountNfs{Host: roAndRW.Nfs.Host}}, "nfs.path is missing", ""},
		{spec("", "/x", ""), "nfs.host is missing", ""},
		{spec("a,addr=6.6.6.6", "/x", ""), "neither a name nor an address", ""},
		{spec("a\nb", "/x", ""), `"a\nb" is neither`, ""},
		{spec("a\x00", "/x", ""), `"a\x00" is neither`, ""},
		{spec("10.0.0.1:2049", "/x", ""), "neither a name nor an address", "port=N"},
		{spec("[10.0.0.1]", "/x", ""), "neither", ""},
		{spec("[::1", "/x", ""), "neither", ""},
		{spec("10.0.0", "/x", ""), "neither", ""},
		{spec("-a", "/x", ""), "neither", ""},
		{spec("a..b", "/x", ""), "neither", ""},
		{spec(strings.Repeat("a.", 127), "/x", ""), "neither", ""},
		{spec("0.0.0.0", "/x", ""), "the address of no server", ""},
		{spec("ff02::1", "/x", ""), "the address of no server", ""},
		{spec("fe80::1", "/x", ""), "an address of every link", "fe80::1%eth0"},
		{spec("fe80::1%a,b", "/x", ""), "no interface", ""},
		{spec("10.0.0.1", "", ""), "nfs.path is missing", ""},
		{spec("10.0.0.1", "x", ""), "does not begin with /", ""},
		{spec("10.0.0.1", "/x\n", ""), "a character that is none", ""},
		{spec("10.0.0.1", "/x\x00,vers=3", ""), "a character that is none", ""},
		{spec("10.0.0.1", "/a/../b", ""), "has .. in it", ""},
		{spec("10.0.0.1", "/"+strings.Repeat("x", 247), ""), "have 257 bytes together; the kernel takes 255", "bind"},
		{spec("10.0.0.1", "/x", "2"), `nfs.version is "2"`, "4.2"},
		{spec("10.0.0.1", "/x", "4.2,sec=none"), "nfs.version is", ""},
		{roAndRW, "nfs.ro says read-only", ""},
		{opts("ro", "rw"), "both ro and rw", ""},
		{opts(""), `"" is no option`, ""},
		{opts("soft,"), `"" is no option`, ""},
		{opts("soft\x00"), "is no option", ""},
		{opts("soft\n"), `there is no option "soft\n"`, "soft"},
		{opts("sofft"), `there is no option "sofft"`, "is it soft"},
		{opts("time=50"), `there is no option "time"`, "timeo"},
		{opts("noatme"), `there is no option "noatme"`, "noatime"},
		{opts("gibberish"), `there is no option "gibberish"`, "docs/mounts/nfs.md"},
		{opts("ro=1"), `there is no option "ro"`, ""},
		{opts("soft=1"), `"soft=1" takes no value`, ""},
		{opts("timeo"), `"timeo" needs a value: a number from 1 to 6000`, ""},
		{opts("timeo=0"), `"timeo=0" must be a number from 1 to 6000`, ""},
		{opts("timeo=5s"), "must be a number", ""},
		{opts("timeo=+5"), "must be a number", ""},
		{opts("timeo=05"), "must be a number", ""},
		{opts("nconnect=17"), "from 1 to 16", ""},
		{opts("port=0"), "from 1 to 65535", ""},
		{opts("lookupcache=some"), "must be all, none, pos, positive", ""},
		{opts("sec=krb5:ntlm"), "must be sys, krb5, krb5i, krb5p, none, or several with colons", ""},
		{opts("fsc="), "must have a name", ""},
		{opts("fsc=a b"), "must have a name", ""},
		{opts("proto=udp"), "must be tcp, tcp6", ""},
		{opts("proto=tcp6"), "proto=tcp6 does not go with the address 10.0.0.1", ""},
		{opts("udp"), "not offered", ""},
		{opts("vers=3"), "is for nfs.version to say", ""},
		{opts("v4.1"), "is for nfs.version to say", ""},
		{opts("addr=10.0.0.2"), "is found out", ""},
		{opts("clientaddr=10.0.0.2"), "is found out", ""},
		{opts("bg"), "in the background", ""},
		{opts("retry=5"), "in the background", ""},
		{opts("sloppy"), "would hide", ""},
		{opts("remount"), "changes a mount that exists", ""},
		{opts("_netdev"), "word of /etc/fstab", ""},
		{opts("x-systemd.automount"), "word for mount(8)", ""},
		{opts("soft", "hard"), "both hard and soft", ""},
		{opts("timeo=5", "timeo=6"), "has timeo twice", ""},
		{opts("tcp", "proto=tcp"), "has proto twice", ""},
		{opts("nolock"), "is an option of NFS 3, and this is NFS 4.2", ""},
		{spec("10.0.0.1", "/x", "3", "max_connect=2"), "is an option of NFS 4, and this is NFS 3", ""},
		{spec("10.0.0.1", "/x", "3", "nolock", "local_lock=all"), "both nolock and local_lock", ""},
	} {
		err := New(Config{}).Validate(c.spec)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(fault.HintOf(err), c.hint) {
			t.Errorf("got %v (%s) (%s), want %q (%s)", err, fault.KindOf(err), fault.HintOf(err), c.says, c.hint)
		}
	}
}

func TestEveryOptionCanBeChecked(t *testing.T) {
	for name, r := range known() {
		if !r.flag && !r.value {
			t.Errorf("%s can neither stand alone nor have a value", name)
		}
		if r.list && len(r.words) == 0 || r.max != 0 && !r.value {
			t.Errorf("%s: %+v", name, r)
		}
		if refused(name) != "" || slices.Contains([]string{"ro", "rw", "sync"}, name) {
			t.Errorf("%s is understood twice", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][4]string{{"10.0.0.1", "/x", "4.2", "soft,timeo=5"}, {"[fe80::1%eth0]", "/a b", "3", "nolock"}, {"a.b", "/x", "", "sec=sys:krb5"}} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, host, path, version, option string) {
		r, err := parse(spec(host, path, version, option))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%v (%s)", err, fault.KindOf(err))
			}
			return
		}
		if source := r.source(); len(source) > 255 || strings.ContainsAny(source, "\x00\n") || !strings.HasSuffix(source, ":"+path) {
			t.Errorf("source %q", source)
		}
		for _, o := range r.all(r.versions[0]) {
			if o.Key == "" || o.Key == "source" || o.Key == "addr" || o.Key == "vers" || strings.ContainsAny(o.String(), ",\x00\n") {
				t.Errorf("option %q", o)
			}
		}
	})
}
