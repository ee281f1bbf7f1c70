// Package uri mounts what it first fetches whole into memory: a squashfs or erofs image, or the content of a tar archive.
//
// Nothing of it can be seen before it is complete and its digest is right. An image is fetched into an anonymous file that is then
// sealed, put behind a loop device that goes with its mount, and mounted; an archive is unpacked into a tmpfs that is not mounted
// anywhere yet, and then moved to its place. Until that last step all of it hangs on descriptors of the daemon, so a daemon that is
// killed leaves nothing, and after it on the mount, so there is nothing to be taken away but the mount. The driver keeps nothing in
// Scratch.
//
// The package owns no connection and no parser: those are internal/fetch and internal/unpack. It never trusts what it fetched.
package uri

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Kind is the word for it on the wire.
const Kind = "uri"

// minSize is the least limit that makes sense: see swagger.yaml.
const minSize = 64 << 10

// Config says how a Driver behaves.
type Config struct {
	// Instance names this daemon in the loop devices it makes: rundir.Dir.Instance.
	Instance string
	// ExtraCAs are trusted beside those of the system.
	ExtraCAs []*x509.Certificate
	// UserAgent is sent to web servers; "windlass" when empty.
	UserAgent string
	// Timing of downloads; zero fields get defaults.
	Timing fetch.Timing
}

// Driver mounts kind uri.
type Driver struct {
	instance string
	client   *fetch.Client
	digest   *regexp.Regexp
}

var _ mount.Driver = (*Driver)(nil)

// New makes the driver.
func New(cfg Config) *Driver {
	return &Driver{
		instance: cfg.Instance,
		client:   fetch.New(fetch.Config{UserAgent: cfg.UserAgent, ExtraCAs: cfg.ExtraCAs, Timing: cfg.Timing}),
		digest:   regexp.MustCompile(`^sha256:[0-9a-f]{64}$`),
	}
}

// Kind implements mount.Driver.
func (d *Driver) Kind() string { return Kind }

// Validate implements mount.Driver.
func (d *Driver) Validate(spec *models.Mount) error {
	_, err := d.plan(spec)
	return err
}

// plan is a spec that has been checked.
type plan struct {
	src    *fetch.Source
	digest string
	format string
	size   int64
}

func (d *Driver) plan(spec *models.Mount) (plan, error) {
	if spec == nil || spec.URI == nil {
		return plan{}, fault.New(fault.Invalid, "a mount of kind %q needs its part uri", Kind)
	}
	s := spec.URI
	if s.URI == nil || *s.URI == "" {
		return plan{}, fault.New(fault.Invalid, "uri.uri is missing: write where the image is, such as https://HOST/PATH")
	}
	src, err := fetch.Parse("uri.uri", *s.URI)
	if err != nil {
		return plan{}, err
	}
	p := plan{src: src, digest: s.Digest, size: s.Size}
	if p.digest != "" && !d.digest.MatchString(p.digest) {
		return plan{}, fault.New(fault.Invalid, "uri.digest %.100q is not \"sha256:\" and 64 small hex digits", p.digest)
	}
	if p.size != 0 && p.size < minSize {
		return plan{}, fault.New(fault.Invalid, "uri.size %d is less than %d bytes", p.size, minSize)
	}
	if s.Format != nil {
		p.format = *s.Format
	}
	switch p.format {
	case "", models.MountURIFormatAuto, models.MountURIFormatSquashfs, models.MountURIFormatErofs, models.MountURIFormatTar:
	default:
		return plan{}, fault.New(fault.Invalid, "uri.format %.50q is none of auto, squashfs, erofs, tar", p.format)
	}
	return p, nil
}

// attempts is how often a file that changes while it is read is begun anew.
const attempts = 3

// Mount implements mount.Driver.
func (d *Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, _ []mount.Layer, target mount.Target) (mount.Active, error) {
	p, err := d.plan(spec)
	if err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil { // before a long download, not after it
		return mount.Active{}, err
	}
	if p.size == 0 {
		if p.size, err = halfOfMemory(); err != nil {
			return mount.Active{}, err
		}
	}
	for try := 1; ; try++ {
		made, err := d.build(ctx, id, p)
		if err == nil {
			return place(ctx, id, target, made)
		}
		if try == attempts || !errors.Is(err, fetch.ErrChanged) {
			return mount.Active{}, err
		}
	}
}

// detached is a mount that is not in the tree yet.
type detached struct {
	mnt      *os.File
	readOnly bool
}

// build fetches and makes the mount.
func (d *Driver) build(ctx context.Context, id mount.ID, p plan) (detached, error) {
	f, err := d.open(ctx, p)
	if err != nil {
		return detached{}, err
	}
	defer f.body.Close()
	if f.format.fsType == "" {
		mnt, err := unpackArchive(ctx, p, f)
		return detached{mnt, false}, err
	}
	mnt, err := d.mountImage(ctx, id, p, f)
	return detached{mnt, true}, err
}

// place puts the mount at its target.
func place(ctx context.Context, id mount.ID, target mount.Target, made detached) (active mount.Active, err error) {
	defer made.mnt.Close()
	number, err := fsmount.ID(made.mnt)
	if err != nil {
		return mount.Active{}, err
	}
	var u undo.Stack
	defer func() { err = u.Unwind(ctx, err) }()
	u.Push("unmount "+target.Dir, func(ctx context.Context) error {
		made.mnt.Close() // it keeps the mount busy
		return unmountIf(ctx, target.Dir, number)
	})
	if err := fsmount.Move(ctx, made.mnt, target.Dir); err != nil {
		return mount.Active{}, err
	}
	return mount.Active{ID: id, Target: target, MountID: number, ReadOnly: made.readOnly}, nil
}

// unmountIf unmounts what is at dir when it is our mount: the move may have failed because of another.
func unmountIf(ctx context.Context, dir string, number uint64) error {
	at, err := fsmount.At(dir)
	if err != nil || at == nil || uint64(at.ID) != number {
		return err
	}
	return fsmount.Unmount(ctx, dir)
}

// Unmount implements mount.Driver.
func (d *Driver) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	return fsmount.Unmount(ctx, a.Target.Dir)
}

// Probe implements mount.Driver. Partial is only what others have mounted there: see the package comment.
func (d *Driver) Probe(_ context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	at, err := fsmount.At(target.Dir)
	switch {
	case err != nil:
		return a, mount.Gone, fmt.Errorf("probe the mount at %s: %w", target.Dir, err)
	case at == nil:
		return a, mount.Gone, nil
	case at.FSType != "tmpfs" && at.FSType != "squashfs" && at.FSType != "erofs":
		return a, mount.Partial, nil
	}
	a.MountID, a.ReadOnly = uint64(at.ID), fsmount.ReadOnly(at)
	return a, mount.Ready, nil
}

func halfOfMemory() (int64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, fmt.Errorf("ask how much memory there is: %w", err)
	}
	return int64(si.Totalram) * int64(si.Unit) / 2, nil //nolint:gosec // no machine has 2^63 bytes
}
