package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/test/vm"
)

// Modules are those of the kernel that storage on the network needs. Nothing loads modules by itself in the guest, so what libceph asks for by
// the name of an algorithm (ms_mode=secure) is here too.
func Modules() []string {
	return []string{"overlay", "loop", "fuse", "crc32c_intel", "libcrc32c", "gcm", "ghash_generic", "ctr", "ccm",
		"rbd", "iscsi_tcp", "sd_mod", "nfs", "nfsv3", "nfsv4"}
}

// all are the packages whose tests run in the lab, in this order.
func all() []vm.Case {
	disks := []string{"mkfs.ext4", "mksquashfs", "sfdisk", "partx"}
	return []vm.Case{
		{Pkg: "test/lab/selftest", NoDaemon: true},
		{Pkg: "attach/rbd", Tools: disks, NoDaemon: true},
		{Pkg: "image/rbd", NoDaemon: true},
		{Pkg: "attach/iscsi", Tools: disks, NoDaemon: true, Timeout: 10 * time.Minute},
		{Pkg: "mount/nfs", Tools: disks, NoDaemon: true},
		// How long things take is measured when it is asked for by name, -run TestFigures.
		{Pkg: "test/storage", Tools: disks, Failpoint: true, Timeout: 15 * time.Minute, Skip: "^TestFigures$"},
	}
}

// rare are tests that are left out of the run of every day: variants of what runs there, or of what runs with a smaller image.
func rare() map[string]string {
	return map[string]string{
		"attach/rbd": "^TestNoshare$/^(a_context|a_step|detach|killed_while|hostile|list)",
		"mount/nfs":  "^TestDriver$/^NFS_3$/^(a_step|killed_while|many|hostile)",
		"test/storage": "^TestSchemes$/^(rbd-ext4|iscsi-squashfs|nfs-directory)$" +
			"|^TestDaemonKilled$/squashfs$/^(iscsi.(create|start|scan|configure)|mountpoint.make|rbd.hold|nfs.create)",
	}
}

// Cases gives the cases of packages, relative to the module, or of all that there are, but for those with a minus before them; run is a pattern
// for their tests. Without one what is asked for by name is left out, and every day also what is rare.
func Cases(root string, packages []string, run string, everyday bool) []vm.Case {
	var cases []vm.Case
	without := slices.DeleteFunc(slices.Clone(packages), func(p string) bool { return !strings.HasPrefix(p, "-") })
	packages = slices.DeleteFunc(slices.Clone(packages), func(p string) bool { return strings.HasPrefix(p, "-") })
	for _, c := range all() {
		if slices.Contains(without, "-"+c.Pkg) {
			continue
		}
		if len(packages) == 0 && hasTests(filepath.Join(root, c.Pkg)) || slices.Contains(packages, c.Pkg) {
			cases = append(cases, c)
		}
	}
	known := func(pkg string) bool { return slices.ContainsFunc(cases, func(c vm.Case) bool { return c.Pkg == pkg }) }
	for _, pkg := range packages {
		if !known(pkg) {
			cases = append(cases, vm.Case{Pkg: pkg, Tools: all()[1].Tools})
		}
	}
	for i := range cases {
		cases[i].Name = strings.ReplaceAll(cases[i].Pkg, "/", "_")
		if cases[i].Timeout == 0 {
			cases[i].Timeout = 10 * time.Minute
		}
		skip := []string{others(filepath.Join(root, cases[i].Pkg))}
		if run == "" {
			skip = append(skip, cases[i].Skip)
		}
		if run == "" && everyday {
			skip = append(skip, rare()[cases[i].Pkg])
		}
		cases[i].Run, cases[i].Skip = run, strings.Join(slices.DeleteFunc(skip, func(p string) bool { return p == "" }), "|")
	}
	return cases
}

// ours is how files with tests for the lab are called.
const ours = "_lab_test.go"

// hasTests says whether a package has tests for the lab.
func hasTests(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "*"+ours))
	return err == nil && len(found) > 0
}

// others is a pattern of the package's tests that are not for the lab; those run elsewhere. It is empty when there are none.
func others(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return ""
	}
	function := regexp.MustCompile(`(?m)^func (Test\w*)\(`)
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || strings.HasSuffix(f, ours) {
			continue
		}
		for _, m := range function.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "^(" + strings.Join(names, "|") + ")$"
}
