//go:build lab

package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/test/smallroot"
)

// parts is how many files the small tree has in /data, of 1 MiB each, which nothing can compress.
const parts = 24

// sums are what `sha256sum /data/*` says in the small tree.
var sums = sync.OnceValue(func() (lines []string) {
	for n := range parts {
		sum := sha256.Sum256(part(n))
		lines = append(lines, fmt.Sprintf("%s  /data/%02d", hex.EncodeToString(sum[:]), n))
	}
	return lines
})

// part is the content of one file, the same in every run.
func part(n int) []byte {
	data := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}

// smallTree makes the small tree in a directory of the test.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := smallroot.Dir(t, filepath.Join(t.TempDir(), "root"))
	must(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
	for n := range parts {
		must(t, os.WriteFile(filepath.Join(dir, "data", fmt.Sprintf("%02d", n)), part(n), 0o644))
	}
	return dir
}

// upload puts a tree on the servers' side.
func (s *servers) upload(t *testing.T, from, to string) {
	t.Helper()
	dirs, programs := []string{"-p"}, []string{"755"}
	must(t, filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path.Join(to, strings.TrimPrefix(file, from)))
		}
		return err
	}))
	s.Run(t, "mkdir", dirs...)
	must(t, filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		there := path.Join(to, strings.TrimPrefix(file, from))
		if target, err := os.Readlink(file); err == nil {
			s.Run(t, "ln", "-s", target, there)
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode()&0o100 != 0 {
			programs = append(programs, there)
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		s.Put(t, there, f)
		return nil
	}))
	s.Run(t, "chmod", programs...)
}
