package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/swagger/models"
)

const root = "../.."

// page is one file of the documentation, by its path from the root.
type page struct{ name, text string }

// A block of JSON says in its first line what it defines: json attach, json mount or json container.
var (
	block = regexp.MustCompile("(?ms)^```json ([a-z]+)\n(.*?)^```$")
	link  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

func TestExamplesFitTheContract(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for n, m := range block.FindAllStringSubmatch(p.text, -1) {
			found++
			t.Run(fmt.Sprintf("%s#%d", p.name, n+1), func(t *testing.T) {
				if err := check(m[1], m[2]); err != nil {
					t.Errorf("%v in\n%s", err, m[2])
				}
			})
		}
	}
	if found == 0 {
		t.Error("no examples found")
	}
}

// TestExampleFiles does the same with the definitions that are files, and holds that the page beside them lists each.
func TestExampleFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/examples/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/examples has no definitions: %v", err)
	}
	index, err := os.ReadFile(filepath.Join(root, "docs/examples/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := check("container", string(text)); err != nil {
				t.Error(err)
			}
			if !strings.Contains(string(index), "["+name+"]("+name+")") {
				t.Errorf("docs/examples/README.md does not list %s", name)
			}
		})
	}
}

func TestReadmeExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<<'JSON'\n")
	def, _, ok2 := strings.Cut(rest, "\nJSON\n")
	if !ok || !ok2 {
		t.Fatal("README.md has no here-document with the definition of the demo")
	}
	if err := check("container", def); err != nil {
		t.Error(err)
	}
}

func check(kind, text string) error {
	var v interface{ Validate(strfmt.Registry) error }
	switch kind {
	case "attach":
		v = &models.Attach{}
	case "mount":
		v = &models.Mount{}
	case "container":
		v = &models.Container{}
	default:
		return fmt.Errorf("json %s: no such definition", kind)
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	return v.Validate(strfmt.Default)
}

func TestLinksLeadSomewhere(t *testing.T) {
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(p.name), target)); err != nil {
				t.Errorf("%s links to %s: %v", p.name, m[1], err)
			}
		}
	}
}

// TestDependenciesHaveReasons holds docs/DEPENDENCIES.md against what is imported, both ways.
func TestDependenciesHaveReasons(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/DEPENDENCIES.md"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{} // whether it is imported
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z.]+\.[a-z]+/\S*?)(?:\{(.*)\})? \|`).FindAllStringSubmatch(string(text), -1) {
		for name := range strings.SplitSeq(m[2], ", ") { // owner/{a, b} names several
			reasons[m[1]+name] = false
		}
	}
	for _, imported := range imports(t) {
		found := false
		for module := range reasons {
			if imported == module || strings.HasPrefix(imported, module+"/") {
				reasons[module], found = true, true
			}
		}
		if !found {
			t.Errorf("docs/DEPENDENCIES.md does not say what %s is for", imported)
		}
	}
	for module, used := range reasons {
		if !used {
			t.Errorf("docs/DEPENDENCIES.md has a reason for %s, which nothing imports", module)
		}
	}
}

// imports lists the packages of other modules that ours import, tests included.
func imports(t *testing.T) []string {
	t.Helper()
	const format = `{{join .Imports "\n"}}{{"\n"}}{{join .TestImports "\n"}}{{"\n"}}{{join .XTestImports "\n"}}`
	cmd := exec.Command("go", "list", "-tags", "ceph,pacific", "-f", format, "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []string
	for p := range strings.FieldsSeq(string(out)) {
		host, _, _ := strings.Cut(p, "/")
		if strings.Contains(host, ".") && !strings.HasPrefix(p, "github.com/windlass-hpc/windlass") {
			all = append(all, p)
		}
	}
	return all
}

func pages(t *testing.T) []page {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var all []page
	for name := range strings.FieldsSeq(string(out)) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{name, string(text)})
	}
	if len(all) == 0 {
		t.Fatal("no documentation found")
	}
	return all
}
