//go:build guest

package initboot

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// switchRoot gives the node to an image that is not there yet: a chunkfs. The first process of the image kills the server of its own root, and
// ends in the end what systemd would end at a shutdown; each time it reads a file that nobody has read before. Its address stands on the command
// line, as the kernel has it.
func switchRoot(t *testing.T, initrd string) {
	o := newOrigin(t)
	tree := boxTree(t, `#!/bin/busybox sh
b=/bin/busybox
exec >/dev/console 2>&1
echo "image: I am $$, on $($b awk '$2 == "/" {t=$3} END {print t}' /proc/mounts)"
echo "image: given $*, $HOME, $TERM, $PATH"
echo "image: $($b hostname) has $($b ip -4 -o addr show eth0 | $b awk '{print $4}')"
server=$($b pidof windlass)
$b kill -9 $server
$b sha256sum /first
echo "image: processes of windlass: $($b pidof windlass | $b wc -w), one as before: $($b pidof windlass | $b grep -cw $server)"
old=/proc/$($b pidof windlass)/root
echo "image: modules left: $($b find $old/lib/modules -type f | $b wc -l), programs: $($b find $old/bin/ -type f | $b wc -l)"
for p in /proc/[0-9]*; do
	c=$($b head -c 1 $p/cmdline 2>/dev/null)
	[ $p = /proc/1 ] || [ -z "$c" ] || [ "$c" = @ ] || $b kill -9 ${p#/proc/} 2>/dev/null
done
$b sha256sum /second
[ -d /sys/fs/cgroup/init.scope ] || $b mkdir /sys/fs/cgroup/test && echo "image: cgroups can be made"
echo x >/written && echo "image: it can be written"
$b poweroff -f
`, nil)
	sums := unread(t, tree, "first", "second")
	chunks(t, tree, filepath.Join(t.TempDir(), "store"), o)
	o.text("/box.json", fmt.Sprintf(`{"name":"box","command":"/sbin/init","mount":{"kind":"overlay","overlay":{"lower":[{"kind":"chunkfs",`+
		`"chunkfs":{"image":"box","prefetch":"none","origins":[{"url":%q}]}}],"upper":{"size":67108864}}}}`, o.url+"/store"))
	n := boot(t, initrd, 512, "windlass.handoff=switch_root windlass.report="+o.url+"/report windlass.container="+o.url+"/box.json ip=10.0.2.15::10.0.2.2:255.255.255.0:switched:eth0:none single")
	n.await("handoff: switch_root to /sbin/init", "image: I am 1, on overlay", "image: switched has 10.0.2.15/24", "image: given single, /, linux, /usr/local/sbin:")
	n.await(sums[0], "image: processes of windlass: 1, one as before: 0", "image: modules left: 0, programs: 2\n", sums[1], "image: cgroups can be made", "image: it can be written")
	n.ends()
	if !o.reported("handoff", "done", "switch_root") {
		t.Error("the boot server was not told")
	}
}

// unread puts files into the tree and gives a line of sha256sum for each.
func unread(t *testing.T, tree string, names ...string) (sums []string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{7})
	for _, name := range names {
		data := make([]byte, 6<<20)
		_, _ = random.Read(data)
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, fmt.Sprintf("%x  /%s\n", sha256.Sum256(data), name))
	}
	return sums
}

// chunks makes a store of chunks of the tree, and gives it away at /store/ with the tag box.
func chunks(t *testing.T, tree, dir string, o *origin) {
	t.Helper()
	src, err := source.Directory(tree, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	st, err := store.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	with := build.Defaults()
	with.Tag = "box"
	if _, err := build.Build(t.Context(), src, st, with); err != nil {
		t.Fatal(err)
	}
	files := http.StripPrefix("/store", http.FileServer(http.Dir(dir)))
	o.set("/store/", files.ServeHTTP)
}
