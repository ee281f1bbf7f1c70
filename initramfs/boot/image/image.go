// Package image fetches what a node is to become: the definition of its container, and the configuration of its daemon.
package image

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/specfile"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// most is how large a definition or a configuration may be.
const most = 4 << 20

// Label marks the container that the node was booted for.
const Label = "windlass.boot"

// LineVar is the variable in which a container finds the words of the kernel's command line that are for it.
const LineVar = "WINDLASS_CMDLINE"

// Proof is what a file must bring to be taken; the fields are those of cmdline.Proof.
type Proof struct {
	Digest    string
	Keys      []string
	Signature string
	Wrong     string
}

// Read fetches a file from a URL: http, https or file. It is given only with the proof that is asked for; another digest and a signature that is
// not right are of kind Corrupt. comment is what the signature says, "" without one. Whether to try again is the caller's to decide; connections
// that break are made again here.
func Read(ctx context.Context, c *fetch.Client, field, url string, p Proof) (data []byte, comment string, err error) {
	if p.Wrong != "" {
		return nil, "", fault.Hintf(fault.New(fault.Invalid, "%s is not fetched, as nobody knows how to prove it: %s", field, p.Wrong), "mend the command line and boot anew")
	}
	src, err := fetch.Parse(field, url)
	if err != nil {
		return nil, "", err
	}
	body, err := c.Open(ctx, src, fetch.Options{Limit: most, Sealed: p.Digest != "" || len(p.Keys) > 0})
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	if data, err = io.ReadAll(body); err != nil {
		return nil, "", err
	}
	if err := body.Verify(p.Digest); err != nil {
		return nil, "", err
	}
	if comment, err = signed(ctx, c, field, url, data, p); err != nil {
		return nil, "", err
	}
	return data, comment, nil
}

// Proven says in words how a file was proven, to be put behind what else is told of it.
func Proven(p Proof, comment string) (text string) {
	if p.Digest != "" {
		text += ", of the right digest"
	}
	if len(p.Keys) > 0 {
		text += ", signed (" + comment + ")"
	}
	return text
}

// Shown is a URL as it may be shown.
func Shown(url string) string {
	src, err := fetch.Parse("URL", url)
	if err != nil {
		return "a URL that cannot be right"
	}
	return src.String()
}

// Definition reads the definition of a container, in JSON or YAML. It is to run, it is marked, and gets the words of the command line that are
// for it: as variable, and when it runs systemd as arguments, where systemd and cloud-init look for them in a container.
func Definition(data []byte, words []string, line string) (c *models.Container, err error) {
	defer guard(&err)
	c = &models.Container{}
	if err := specfile.Decode("definition", data, c); err != nil {
		return nil, fault.New(fault.Invalid, "%w", err)
	}
	if c.Command == nil || c.Mount == nil {
		return nil, fault.New(fault.Invalid, "the definition is not that of a container: it needs command and mount")
	}
	c.State = models.ContainerStateRunning
	if c.Labels = maps.Clone(c.Labels); c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.Labels[Label] = "yes"
	if len(words) == 0 {
		return c, nil
	}
	if c.Env = maps.Clone(c.Env); c.Env == nil {
		c.Env = map[string]string{}
	}
	if _, there := c.Env[LineVar]; !there {
		c.Env[LineVar] = line
	}
	if c.Systemd {
		command := strings.TrimSpace(*c.Command) + " " + shellquote.Join(words...)
		c.Command = &command
	}
	return c, nil
}

// Keep writes the daemon's configuration into dir, once it is seen to be right, and gives its path.
func Keep(dir string, data []byte) (path string, err error) {
	defer guard(&err)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "windlass.yaml")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return "", err
	}
	if err := config.CheckFile(path + ".new"); err != nil {
		return "", fault.New(fault.Invalid, "the configuration is wrong: %w", err)
	}
	return path, os.Rename(path+".new", path)
}

// guard makes an error of a panic of a parser: this runs in the first process of a node, which must not end for what a server sends.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fault.New(fault.Invalid, "what was fetched cannot be read: %v", r)
	}
}

// Hopeless says whether trying again will not help as long as nobody changes what is asked for, or what lies there.
func Hopeless(err error) bool {
	switch fault.KindOf(err) {
	case fault.Corrupt, fault.Invalid, fault.TooLarge, fault.Unsupported, fault.Forbidden, fault.NotFound:
		return true
	}
	return false
}
