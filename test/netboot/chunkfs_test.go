//go:build guest

package netboot

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// TestChunkfs has a machine boot whose image is a chunkfs that the boot server has.
func TestChunkfs(t *testing.T) {
	vm.Slot(t, vm.Config{})
	if err := order(windlass, "image", "build", filepath.Join(vm.Cache(), "debian-rootfs"), "-o", dir+"/images/store", "--tag", "debian", "--level", "1"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/images/chunks.json", fmt.Sprintf(`{"name":"debian","command":"/sbin/init","systemd":true,"mount":{"kind":"overlay","overlay":{`+
		`"lower":[{"kind":"chunkfs","chunkfs":{"image":"debian","origins":[{"url":%q}]}}],"upper":{"size":134217728}}}}`, webURL+"/images/store"))
	site{mode: "dhcp", words: "windlass.container=" + webURL + "/images/chunks.json"}.serve(t)
	on(t, bios, 0).runs("running", seenByServer...)
}
