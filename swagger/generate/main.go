// Command generate makes everything that follows from swagger.yaml: swagger/models, swagger/client and swagger/spec/swagger.json.
//
//	go run ./swagger/generate           writes what differs
//	go run ./swagger/generate -check    writes nothing, and fails when something differs
//
// It runs at the top of the tree. The generator works in a directory of its own, so a failure leaves the tree as it was. The generator's
// version is pinned here and nowhere else; v0.36.7 cannot be downloaded.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/go-openapi/swag/yamlutils"
)

const (
	generator = "github.com/go-swagger/go-swagger/cmd/swagger@v0.36.6"
	module    = "module github.com/windlass-hpc/windlass\n\ngo 1.26.0\n"
	source    = "swagger.yaml"
	specFile  = "swagger/spec/swagger.json"
)

// generated are the directories that hold nothing else.
var generated = []string{"swagger/models", "swagger/client"}

func main() {
	check := flag.Bool("check", false, "only compare")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	yaml, err := os.ReadFile(source)
	if err != nil {
		return fmt.Errorf("%w (run it at the top of the tree)", err)
	}
	tmp, err := os.MkdirTemp("", "windlass-generate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := generate(tmp, yaml); err != nil {
		return err
	}
	return replace(tmp, check)
}

// generate makes the same tree below dir.
func generate(dir string, yaml []byte) error {
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(specFile)), 0o755); err != nil {
		return err
	}
	spec, err := toJSON(yaml)
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	for name, content := range map[string][]byte{source: yaml, "go.mod": []byte(module), specFile: spec} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"generate", "model", "-q", "-f", source, "-t", "swagger", "-m", "models"},
		{"generate", "client", "-q", "-f", source, "-t", "swagger", "-m", "models", "-c", "client", "--skip-models", "-A", "windlass"},
	} {
		cmd := exec.Command("go", append([]string{"run", generator}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go-swagger %v: %w\n%s", args[:2], err, out)
		}
	}
	return nil
}

// toJSON keeps the order of the keys.
func toJSON(yaml []byte) ([]byte, error) {
	doc, err := yamlutils.BytesToYAMLDoc(yaml)
	if err != nil {
		return nil, err
	}
	raw, err := yamlutils.YAMLToJSON(doc)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", " "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// replace makes the tree the same as the one below dir, or says how it differs.
func replace(dir string, check bool) error {
	fresh, err := list(dir)
	if err != nil {
		return err
	}
	present, err := list(".")
	if err != nil {
		return err
	}
	var errs []error
	for name, content := range fresh {
		if bytes.Equal(content, present[name]) {
			continue
		}
		if check {
			errs = append(errs, fmt.Errorf("%s is not what %s says", name, source))
			continue
		}
		errs = append(errs, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, content, 0o644))
	}
	for name := range present {
		if _, ok := fresh[name]; ok {
			continue
		}
		if check {
			errs = append(errs, fmt.Errorf("%s does not follow from %s", name, source))
			continue
		}
		errs = append(errs, os.Remove(name))
	}
	err = errors.Join(errs...)
	if check && err != nil {
		return fmt.Errorf("%w\nrun: go run ./swagger/generate", err)
	}
	return err
}

// list reads every generated file below dir, by its path from there.
func list(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, root := range append(slices.Clone(generated), specFile) {
		err := filepath.WalkDir(filepath.Join(dir, root), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			files[name], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}
