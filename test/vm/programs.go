package vm

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programs builds windlass, its shim and the tests of the cases in dir, all linked statically, and gives their files by their names.
func programs(t testing.TB, dir string, c Config) map[string]string {
	t.Helper()
	orders := map[string][]string{}
	orders["windlass-shim"] = []string{"build", module + "/cmd/windlass-shim"}
	for _, one := range c.Cases {
		if !one.NoDaemon {
			orders["windlass"] = []string{"build", module + "/cmd/windlass"}
		}
		if one.Failpoint {
			orders["failpoint/windlass"] = []string{"build", "-tags=failpoint", module + "/cmd/windlass"}
		}
		orders[one.Name+".test"] = []string{"test", "-c", "-tags", c.Tags, module + "/" + one.Pkg}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	files, failed := map[string]string{}, map[string]string{}
	for name, order := range orders {
		wg.Go(func() {
			file := filepath.Join(dir, name)
			last := len(order) - 1
			args := append(order[:last:last], "-trimpath", "-ldflags", "-s -w", "-o", file, order[last])
			cmd := exec.Command("go", args...)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if _, there := os.Stat(file); err == nil && there == nil {
				files[name] = file
				return
			}
			failed[name] = "go " + strings.Join(args, " ") + "\n" + string(out)
		})
	}
	wg.Wait()
	for name := range maps.Keys(failed) {
		t.Errorf("%s could not be built, or has no test files:\n%s", name, failed[name])
	}
	if len(failed) > 0 {
		t.FailNow()
	}
	return files
}

// withLibraries gives the files of a program of this machine and of the libraries that the guest's system lacks. Both are the same Debian.
func withLibraries(t testing.TB, name string) (files []string) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install what test/install.sh does", err)
	}
	paths := []string{program}
	for _, word := range strings.Fields(must(t, nil, "ldd", program)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	for _, p := range paths {
		dir, err := filepath.EvalSymlinks(filepath.Dir(p)) // /lib is a link in both
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, filepath.Base(p))
		if _, err := os.Stat(filepath.Join(Cache(), "debian-rootfs", file)); err != nil {
			files = append(files, file)
		}
	}
	return files
}
