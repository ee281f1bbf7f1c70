package imports

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source is one Go file of ours.
type source struct {
	pkg  string // relative to the module
	name string // relative to the root
	file *ast.File
	set  *token.FileSet
}

func (s source) test() bool      { return strings.HasSuffix(s.name, "_test.go") }
func (s source) generated() bool { return ast.IsGenerated(s.file) }

func TestEveryImportIsAllowed(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, dep := range ours(t, s) {
			if why := allowed(s.pkg, dep); why != "" {
				t.Errorf("%s: %s imports %s: %s", s.name, s.pkg, dep, why)
			}
		}
	}
}

// TestTestsStayBelowTheChain keeps even tests of drivers from reaching up or across.
func TestTestsStayBelowTheChain(t *testing.T) {
	for _, s := range sources(t) {
		kind, _, _ := strings.Cut(s.pkg, "/")
		if !s.test() || !slices.Contains([]string{"attach", "mount", "container"}, kind) {
			continue
		}
		for _, dep := range ours(t, s) {
			if s.pkg == "mount/chunk" && matches("chunkfs/...", dep) {
				continue // its suite runs on the real server and on images that are built for it
			}
			if !matches(kind+"/...", dep) && !matches("internal/...", dep) && !matches("swagger/models", dep) && !matches("test/...", dep) {
				t.Errorf("%s imports %s: not even a test of a driver knows its neighbours or the chain", s.name, dep)
			}
		}
	}
}

func TestNoInitAndNoBlankImports(t *testing.T) {
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !locksThread(s, f) {
				t.Errorf("%s: init() does something because a package is imported; wire it in cmd", s.set.Position(f.Pos()))
			}
		}
		for _, i := range s.file.Imports {
			if i.Name != nil && i.Name.Name == "_" && i.Path.Value != `"embed"` {
				t.Errorf("%s: imports %s for its side effects", s.set.Position(i.Pos()), i.Path.Value)
			}
		}
	}
}

// locksThread knows the one init() that cannot be wired otherwise: a program that must stay on its main thread has to say so there.
func locksThread(s source, f *ast.FuncDecl) bool {
	if s.file.Name.Name != "main" || len(f.Body.List) != 1 {
		return false
	}
	stmt, ok := f.Body.List[0].(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := stmt.X.(*ast.CallExpr)
	if !ok || len(call.Args) != 0 {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "LockOSThread" {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "runtime"
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test() {
			documented[s.pkg] = documented[s.pkg] || s.file.Doc != nil || s.generated()
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

func TestTopLevelDirectories(t *testing.T) {
	out, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	for name := range bytes.SplitSeq(out, []byte{0}) {
		dir, _, below := strings.Cut(string(name), "/")
		if below && !slices.Contains(topLevel(), dir) {
			t.Errorf("%s: there is no place for a directory %s at the top; see topLevel", name, dir)
		}
	}
}

// TestTheShimStaysSmall: a shim runs beside every container, and nothing but the standard library and x/sys belongs into it.
func TestTheShimStaysSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/windlass-shim")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(dep, module+"/") && !strings.HasPrefix(dep, "golang.org/x/sys/") {
			t.Errorf("cmd/windlass-shim depends on %s", dep)
		}
	}
}

func TestAllowed(t *testing.T) {
	tests := []struct {
		pkg, dep string
		want     bool
	}{
		{"attach/loopback", "attach", true},
		{"attach/loopback", "internal/fault", true},
		{"attach/loopback", "attach/local", false},
		{"attach/loopback", "mount", false},
		{"mount/overlay", "chain", false},
		{"container/linux", "container/shim", true},
		{"container", "container/linux", false},
		{"chain", "mount", true},
		{"chain", "mount/overlay", false},
		{"chain", "swagger/server", false},
		{"swagger/server", "chain", false},
		{"swagger/server", "container/linux", false},
		{"internal/fault", "chain", false},
		{"internal/fault", "internal/cli", false},
		{"internal/cli", "chain", true},
		{"cmd/windlass", "attach/loopback", true},
		{"chain", "test/nodestate", false},
		{"newcomer", "internal/fault", false},
	}
	for _, tt := range tests {
		if got := allowed(tt.pkg, tt.dep) == ""; got != tt.want {
			t.Errorf("%s may import %s: %v, want %v", tt.pkg, tt.dep, got, tt.want)
		}
	}
}

// ours gives the file's imports from this module, relative to it.
func ours(t *testing.T, s source) []string {
	t.Helper()
	var deps []string
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if rel, ok := strings.CutPrefix(p, module+"/"); ok {
			deps = append(deps, rel)
		}
	}
	return deps
}

// sources parses every Go file of the module, whatever its build tags, and leaves modules of their own alone.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && foreign(p, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		all = append(all, source{pkg: filepath.ToSlash(filepath.Dir(name)), name: name, file: f, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

// foreign says whether a directory holds no code of this module.
func foreign(dir, name string) bool {
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
