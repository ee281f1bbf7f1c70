package lab

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tree makes a module with two packages, of which one has tests for the lab.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for file, text := range map[string]string{
		"attach/rbd/map_lab_test.go":   "package rbd\nfunc TestMap(t *testing.T) {}\n",
		"attach/rbd/line_test.go":      "package rbd\nfunc TestLine(t *testing.T) {}\nfunc TestLines(t *testing.T) {\n\tt.Run(`func TestNot(t`, nil)\n}\nfunc helper() {}\n",
		"attach/iscsi/login_test.go":   "package iscsi\nfunc TestLogin(t *testing.T) {}\n",
		"attach/other/any_lab_test.go": "package other\nfunc TestAny(t *testing.T) {}\n",
	} {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCases(t *testing.T) {
	root := tree(t)
	cases := Cases(root, nil, "", false)
	if len(cases) != 1 || cases[0].Pkg != "attach/rbd" || cases[0].Name != "attach_rbd" {
		t.Fatalf("of what is in the list, attach/rbd alone has tests for the lab; got %v", cases)
	}
	skip := regexp.MustCompile(cases[0].Skip)
	for name, skipped := range map[string]bool{"TestLine": true, "TestLines": true, "TestMap": false, "TestNot": false, "TestLineX": false} {
		if skip.MatchString(name) != skipped {
			t.Errorf("%s: skipped is %v", name, !skipped)
		}
	}
	if cases := Cases(root, []string{"-attach/rbd"}, "", false); len(cases) != 0 {
		t.Errorf("all but attach/rbd: %+v", cases)
	}
	if cases := Cases(root, []string{"attach/other"}, "TestA|TestB", true); len(cases) != 1 || cases[0].Run != "TestA|TestB" || cases[0].Skip != "" {
		t.Errorf("a package that is not in the list: %+v", cases)
	}
}

// TestEveryday holds that what is rare is left out of the run of every day, and not when a test is asked for.
func TestEveryday(t *testing.T) {
	root := tree(t)
	const rarely = "^TestNoshare$/"
	for _, c := range []struct {
		run      string
		everyday bool
		want     bool
	}{{"", true, true}, {"", false, false}, {"TestNoshare", true, false}} {
		cases := Cases(root, []string{"attach/rbd"}, c.run, c.everyday)
		if got := strings.Contains(cases[0].Skip, rarely); got != c.want {
			t.Errorf("run %q, every day %v: it leaves out %q", c.run, c.everyday, cases[0].Skip)
		}
	}
}

// TestListIsWhole holds that no package has tests for the lab that nobody runs.
func TestListIsWhole(t *testing.T) {
	const root, notListed = "../..", "test/lab/selftest/panics"
	listed := map[string]bool{notListed: true}
	for _, c := range all() {
		listed[c.Pkg] = true
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ours) {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err == nil && !listed[pkg] {
			t.Errorf("%s has tests for the lab and is not in the list in test/lab/list.go", pkg)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMasked(t *testing.T) {
	const text = "auth: key AQDXkR9nAAAAABAAZ3OYkoF0bDqBM0Gyuc1nVg== of client.admin"
	if got := masked([]byte(text)); got != "auth: key *** of client.admin" {
		t.Error(got)
	}
}
