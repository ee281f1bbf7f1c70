package imports

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// module is the import path that everything of ours begins with.
const module = "github.com/windlass-hpc/windlass"

// topLevel are the directories that there may be.
func topLevel() []string {
	return []string{".ci", "attach", "bin", "chain", "chunkfs", "cmd", "container", "docs", "image", "initramfs", "internal", "mount", "netboot", "swagger", "test"}
}

// rule says what packages of ours the packages that match may import, tests aside. The first rule that matches a package counts. A
// pattern ending in /... matches the package and all below it; others are as in path.Match.
type rule struct {
	packages string
	may      []string
	why      string
}

func rules() []rule {
	leaves := []string{"internal/...", "swagger/models"}
	with := func(more ...string) []string { return slices.Concat(leaves, more) }
	return []rule{
		{"attach", leaves, "the contract knows no driver and no neighbour"},
		{"mount", leaves, "the contract knows no driver and no neighbour"},
		{"container", leaves, "the contract knows no runtime and no neighbour"},
		{"attach/iscsi/...", with("attach", "attach/iscsi/..."), "a driver knows its contract and leaves; its protocol lies below it"},
		{"attach/*", with("attach"), "a driver knows its contract and leaves, nothing beside or above it"},
		{"mount/chunk", with("mount", "chunkfs/control", "chunkfs/origin", "chunkfs/format"), "a driver knows its contract and leaves; this one speaks with its server"},
		{"mount/*", with("mount"), "a driver knows its contract and leaves, nothing beside or above it"},
		{"container/shim/...", with("container/shim/..."), "the shim knows nothing but its protocol"},
		{"container/*", with("container", "container/shim/..."), "a runtime knows its contract, its shim's protocol and leaves"},
		{"chain/...", with("attach", "mount", "container", "chain/..."), "the chain knows the three contracts and no driver"},
		{"swagger/models", nil, "generated from the contract alone"},
		{"swagger/client/...", []string{"swagger/models", "swagger/client/..."}, "generated from the contract alone"},
		{"swagger/server/...", with("container", "swagger/server/...", "swagger/execstream", "swagger/spec", "swagger/ui"), "the server knows the chain by an interface of its own"},
		{"swagger/*", leaves, "shared by server and client"},
		{"chunkfs/keeper", nil, "the keeper is part of the shim and stays small"},
		{"chunkfs/format", with(), "what an image is in bytes knows nothing of who reads it"},
		{"chunkfs/erofs", with("chunkfs/erofs/erofstest"), "EROFS is a format; it knows nothing of chunks"},
		{"chunkfs/erofs/erofstest", with("chunkfs/erofs"), "a tree for tests of what shows EROFS"},
		{"chunkfs/fusefs", with("chunkfs/erofs", "chunkfs/erofs/erofstest", "chunkfs/lazy"), "a file system is metadata and a device"},
		{"chunkfs/serve", with("chunkfs/..."), "the server is the top of chunkfs"},
		{"chunkfs/control", with("chunkfs/format", "chunkfs/origin", "chunkfs/keeper"), "the daemon's side of the server knows the messages alone"},
		{"chunkfs/*", with("chunkfs/format", "chunkfs/erofs", "chunkfs/source", "chunkfs/origin", "chunkfs/store", "chunkfs/cache"), "the layers of chunkfs"},
		{"image/...", with("chunkfs/..."), "the administrator's side knows images and no daemon"},
		{"initramfs/cpio", with(), "archives know nothing of what is in them"},
		{"initramfs/cmdline", with(), "words are judged without touching anything"},
		{"initramfs/boot", with("initramfs/boot/...", "initramfs/cmdline", "initramfs/kmod"), "init starts the daemon and speaks with it over its socket, as any client"},
		{"initramfs/boot/network", with("initramfs/boot/journal", "initramfs/cmdline"), "a stage knows its options and the journal"},
		{"initramfs/boot/devices", with("initramfs/boot/journal", "initramfs/kmod"), "a stage knows the modules and the journal"},
		{"initramfs/boot/*", with("initramfs/boot/journal"), "a part of init knows the journal and leaves"},
		{"initramfs/kmod", with(), "modules are found and loaded without the rest"},
		{"initramfs/rescue", with("initramfs/cpio"), "the rescue layer is a tree like others"},
		{"initramfs", with("initramfs/cpio", "initramfs/kmod", "initramfs/rescue"), "the builder knows no daemon and no image"},
		{"netboot/config", with(), "what the file says knows nothing of who serves it"},
		{"netboot/lease", with(), "leases speak no DHCP"},
		{"netboot/nodes", with(), "how far nodes have come knows nothing of who saw it"},
		{"netboot/publish", with(), "files are opened without knowing who asks"},
		{"netboot/quiet", with(), "a leaf of the boot server"},
		{"netboot/ra", with("netboot/quiet"), "it answers for one interface and knows no others"},
		{"netboot/script", with("netboot/config"), "scripts come from the configuration alone"},
		{"netboot/export", with("netboot/config", "netboot/script"), "files for other servers come from the configuration alone"},
		{"netboot/dhcp", with("netboot/config", "netboot/script", "netboot/lease", "netboot/nodes", "netboot/quiet"), "each server knows what it serves, not the others"},
		{"netboot/tftp", with("netboot/config", "netboot/nodes", "netboot/publish", "netboot/quiet"), "each server knows what it serves, not the others"},
		{"netboot/web", with("netboot/config", "netboot/script", "netboot/nodes", "netboot/publish", "netboot/quiet"), "each server knows what it serves, not the others"},
		{"netboot", with("netboot/..."), "the boot server knows no daemon and no image"},
		{"cmd/windlass-shim", with("container/shim/...", "chunkfs/keeper"), "the shim stays small"},
		{"cmd/...", []string{"..."}, "programs wire everything"},
		{"internal/cli/...", []string{"..."}, "the command line wires everything"},
		{"docs/...", nil, "the documentation holds no program"},
		{"internal/...", leaves, "a leaf holds one noun and knows other leaves only"},
		{"test/...", []string{"..."}, "tests look at everything"},
	}
}

// allowed says whether pkg may import dep, both relative to the module; the answer is empty or the reason why not.
func allowed(pkg, dep string) string {
	if matches("cmd/...", dep) || matches("test/...", dep) && !matches("test/...", pkg) {
		return "programs and tests are not imported"
	}
	if matches("internal/cli/...", dep) && !matches("cmd/...", pkg) && !matches("internal/cli/...", pkg) && !matches("test/...", pkg) {
		return "only the programs import the command line"
	}
	for _, r := range rules() {
		if !matches(r.packages, pkg) {
			continue
		}
		for _, p := range r.may {
			if matches(p, dep) {
				return ""
			}
		}
		return r.why
	}
	return fmt.Sprintf("no rule in test/imports/rules.go speaks of %s; give it one", pkg)
}

func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	ok, _ := path.Match(pattern, pkg)
	return ok
}
