package daemon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Binaries are the programs of one build.
type Binaries struct{ Windlass, Shim string }

// built keeps one build of each kind for all tests of a package.
var built = struct {
	mu sync.Mutex
	by map[string]Binaries
}{by: map[string]Binaries{}}

// programsEnv names a directory with the programs, for where there is no compiler: see test/vm. Those with failpoints lie in failpoint below it.
const programsEnv = "WINDLASS_TEST_PROGRAMS"

// Build builds the programs from this tree with the go build flags given, such as "-tags=failpoint" or "-race". The race detector needs
// cgo; the shim is always built without both. Where the environment names a directory with programs it takes those: there is no compiler.
func Build(t testing.TB, flags ...string) Binaries {
	t.Helper()
	key := strings.Join(flags, " ")
	if dir := os.Getenv(programsEnv); dir != "" {
		return given(t, dir, key)
	}
	built.mu.Lock()
	defer built.mu.Unlock()
	if b, ok := built.by[key]; ok {
		return b
	}
	dir, err := os.MkdirTemp("", "windlass-build-")
	if err != nil {
		t.Fatal(err)
	}
	b := Binaries{Windlass: filepath.Join(dir, "windlass"), Shim: filepath.Join(dir, "windlass-shim")}
	build(t, "0", "-o", b.Shim, "github.com/windlass-hpc/windlass/cmd/windlass-shim")
	cgo := "0"
	if strings.Contains(key, "-race") {
		cgo = "1"
	}
	build(t, cgo, append(flags, "-o", b.Windlass, "github.com/windlass-hpc/windlass/cmd/windlass")...)
	built.by[key] = b
	return b
}

// given finds the programs of a build in a directory.
func given(t testing.TB, dir, flags string) Binaries {
	t.Helper()
	sub, known := map[string]string{"": "", "-tags=failpoint": "failpoint"}[flags]
	b := Binaries{Windlass: filepath.Join(dir, sub, "windlass"), Shim: filepath.Join(dir, "windlass-shim")}
	if _, err := os.Stat(b.Windlass); err != nil || !known {
		t.Fatalf("there is no windlass built with %q in %s, and no compiler: %v", flags, dir, err)
	}
	return b
}

func build(t testing.TB, cgo string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// Clean removes what Build made; a package's TestMain calls it last.
func Clean() {
	built.mu.Lock()
	defer built.mu.Unlock()
	for _, b := range built.by {
		os.RemoveAll(filepath.Dir(b.Windlass))
	}
}
