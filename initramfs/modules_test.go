package initramfs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestAModuleOfANeighbouringVersion counts where depmod puts those that still fit, and nowhere else.
func TestAModuleOfANeighbouringVersion(t *testing.T) {
	for place, fits := range map[string]bool{"weak-updates": true, "updates": false, "kernel/drivers": false} {
		root := someModules(t, t.TempDir(), "loop", "squashfs")
		found, err := filepath.Glob(root + "/lib/modules/*/kernel/fs/squashfs/squashfs.ko")
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		data, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		dir := strings.TrimSuffix(found[0], "/kernel/fs/squashfs/squashfs.ko")
		release := []byte("vermagic=" + filepath.Base(dir))
		other := bytes.Clone(release)
		other[len("vermagic=")]++ // 6.1 becomes 7.1
		if err := os.Remove(found[0]); err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string]string{place + "/squashfs.ko": string(bytes.Replace(data, release, other, 1))})
		for _, kernel := range []string{"", root + "/vmlinuz"} {
			o := plain(t)
			o.Modules, o.Module, o.Kernel = root, []string{"loop", "squashfs"}, kernel
			p, err := Prepare(context.Background(), o)
			if fits && (err != nil || p.Modules != 2 || p.Release != filepath.Base(dir)) {
				t.Errorf("%s, kernel %q: %v", place, kernel, err)
			}
			if !fits && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "squashfs.ko is for ")) {
				t.Errorf("%s, kernel %q: %v", place, kernel, err)
			}
		}
	}
}
