// Package rescue builds the commands of the rescue layer: u-root's, as one static program with many names.
//
// It has the go command build them out of a module of its own, rescue.mod, in which u-root and all that it needs is pinned by version and
// digest. It owns the cache of what was built.
package rescue

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/fault"
)

//go:embed rescue.mod
var module []byte

//go:embed rescue.sum
var sums []byte

// recipe changes when the way of building does, so that what was built in another way is not taken out of the cache.
const recipe = "2"

// builder is the package of u-root's own builder.
const builder = "github.com/u-root/u-root"

// Config says how the commands are built.
type Config struct {
	Go    string // the go command; "" looks in PATH
	Arch  string // of the node, as GOARCH has it; "" is that of this machine
	Cache string // directory of what was built; it is made when it is not there
}

// Commands lists the commands.
func Commands() []string {
	var list []string
	for _, p := range packages() {
		list = append(list, p[strings.LastIndexByte(p, '/')+1:])
	}
	return list
}

func packages() []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^\t(`+builder+`/cmds/\S+)$`).FindAllSubmatch(module, -1) {
		list = append(list, string(m[1]))
	}
	return list
}

// Cached gives the layer if it was built before, else nil.
func (c Config) Cached(ctx context.Context) (*cpio.Tree, error) {
	key, err := c.key(ctx)
	if err != nil {
		return nil, err
	}
	return c.cached(key)
}

// Build gives the layer, out of the cache when it was built before. The first time takes a minute, and the network unless the modules are
// in Go's cache.
func (c Config) Build(ctx context.Context) (*cpio.Tree, error) {
	key, err := c.key(ctx)
	if err != nil {
		return nil, err
	}
	if t, err := c.cached(key); err != nil || t != nil {
		return t, err
	}
	dir, err := os.MkdirTemp("", "windlass-rescue")
	if err != nil {
		return nil, fmt.Errorf("build the rescue layer: %w", err)
	}
	defer os.RemoveAll(dir)
	t, err := c.build(ctx, dir)
	if err != nil {
		return nil, err
	}
	return t, c.keep(ctx, key, t)
}

// key is a digest of all that the layer is made of.
func (c Config) key(ctx context.Context) (string, error) {
	version, err := c.run(ctx, "", "version")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(recipe), module, sums, version, []byte(c.arch())} {
		fmt.Fprintf(h, "%d\n%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

func (c Config) arch() string {
	if c.Arch != "" {
		return c.Arch
	}
	return runtime.GOARCH
}

// build has the commands built in dir.
func (c Config) build(ctx context.Context, dir string) (*cpio.Tree, error) {
	for name, data := range map[string][]byte{"go.mod": module, "go.sum": sums} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, fmt.Errorf("build the rescue layer: %w", err)
		}
	}
	tool, out := filepath.Join(dir, "u-root"), filepath.Join(dir, "rescue.cpio")
	if _, err := c.run(ctx, dir, "build", "-o", tool, builder); err != nil {
		return nil, err
	}
	// The other editor of gosh's lines asks the terminal for its colours and waits for the answer, which a serial line never gives.
	cmd := exec.CommandContext(ctx, tool, append([]string{"-go-build-tags=goshliner", "-base=/dev/null", "-initcmd=", "-uinitcmd=", "-defaultsh=gosh", "-o", out}, packages()...)...)
	cmd.Dir, cmd.Env = dir, append(c.env(), "GOARCH="+c.arch(), "GOOS=linux", "PATH="+c.path())
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, failed("u-root", text, err)
	}
	f, err := os.Open(out)
	if err != nil {
		return nil, fmt.Errorf("build the rescue layer: %w", err)
	}
	defer f.Close()
	return read(f)
}

// path puts the go command that was named before others: u-root calls it, too.
func (c Config) path() string {
	if c.Go == "" {
		return os.Getenv("PATH")
	}
	return filepath.Dir(c.Go) + ":" + os.Getenv("PATH")
}

// env is what makes the build depend on nothing but the module.
func (c Config) env() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=on", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOAMD64=v1", "GOEXPERIMENT=")
}

// run runs the go command and gives what it prints.
func (c Config) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	name := c.Go
	if name == "" {
		name = "go"
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, c.env()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil, fault.Hintf(fault.New(fault.Unsupported, "the rescue layer is built by the go command: %w", err),
			"install Go 1.26, or build the layer where it is, with --layer rescue, and append the file")
	}
	if err != nil {
		return nil, failed("go "+args[0], errs.Bytes(), err)
	}
	return out.Bytes(), nil
}

// shown is how much of the output of a program that failed is told.
const shown = 2000

func failed(what string, text []byte, err error) error {
	text = bytes.TrimSpace(text)
	if len(text) > shown {
		text = append([]byte("…"), text[len(text)-shown:]...)
	}
	return fault.Hintf(fault.New(fault.Backend, "build the rescue layer: %s: %w\n%s", what, err, text),
		"it fetches u-root's modules the first time: is the network there, and does GOPROXY name a proxy that can be reached?")
}
