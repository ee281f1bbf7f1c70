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

// TestEveryDependencyHasAReason holds docs/DEPENDENCIES.md against go.mod.
func TestEveryDependencyHasAReason(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/DEPENDENCIES.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := func(path string) bool {
		if bytes.Contains(text, []byte(path+" ")) {
			return true
		}
		// One line may name several modules of an owner: owner/{a, b}; a module of one of them has its own name below.
		const owner = "github.com/go-openapi/"
		name, ok := strings.CutPrefix(path, owner)
		name, _, _ = strings.Cut(name, "/")
		return ok && regexp.MustCompile(regexp.QuoteMeta(owner)+`\{[^}]*\b`+name+`\b`).Match(text)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if !listed(path) {
			t.Errorf("docs/DEPENDENCIES.md does not say what %s is for", path)
		}
	}
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
