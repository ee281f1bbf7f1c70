package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Peer is another store of the same images, to mend this one from: an origin.Fetcher, for example.
type Peer interface {
	Tag(ctx context.Context, name string) (format.Digest, error)
	Blob(ctx context.Context, d format.Digest, limit int64) ([]byte, error)
	Trace(ctx context.Context, image format.Digest, role string) ([]byte, error)
}

// CheckOptions say what is checked.
type CheckOptions struct {
	Refs     []string // tags or digests of images; none: all that the store holds
	Peer     Peer     // where to mend from; nil: only look
	Parallel int      // packs at once; 0: as many as there are processors
	// Progress is told how many bytes of packs have been read; it may be nil.
	Progress func(done, total int64)
}

// What is damaged.
const (
	StoreDamage    = "store"    // the file that marks it
	TagDamage      = "tag"      // unreadable, or it names an image that is nowhere
	ManifestDamage = "manifest" // of an image that is known by its pin or by the digest that was asked for
	MetadataDamage = "metadata"
	IndexDamage    = "index"
	PackDamage     = "pack"
	ChunkDamage    = "chunk" // the pack has its digest, and yet not what the index says: it was built wrong
	TraceDamage    = "trace"
	BlobDamage     = "blob" // that no image needs
)

// Damage is one thing that is not what it should be.
type Damage struct {
	What   string        `json:"what"`
	Images []string      `json:"images,omitempty"` // tags, or digests, of those that need it
	Path   string        `json:"path"`             // of the file in the store
	Chunks []format.Sum  `json:"chunks,omitempty"` // that cannot be read
	Files  []string      `json:"files,omitempty"`  // of the images, that have these chunks, as format.QuotePath
	Error  string        `json:"error"`
	Mended bool          `json:"mended"`
	digest format.Digest // of the blob
}

// CheckReport is what a check found. Bytes are of packs as stored.
type CheckReport struct {
	Images  int      `json:"images"`
	Blobs   int      `json:"blobs"`
	Chunks  int64    `json:"chunks"`
	Bytes   int64    `json:"bytes"`
	Damages []Damage `json:"damages"`
}

// Damaged is how many damages are left.
func (r *CheckReport) Damaged() (n int) {
	for _, d := range r.Damages {
		if !d.Mended {
			n++
		}
	}
	return n
}

// Check reads all of the images and compares it with its digests: tags, manifests, indexes, metadata, every pack and every chunk in it. With
// a Peer, what is damaged or missing is fetched from there, verified, and put in place. The error says that the check could not be done;
// what was found is in the report.
func (s *Store) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	c := &check{store: s, o: o, report: &CheckReport{Damages: []Damage{}}, blobs: map[format.Digest]*Damage{},
		packs: map[format.Digest]*packCheck{}, images: map[format.Digest]*imageCheck{}}
	err := c.run(ctx)
	if c.txn != nil {
		c.txn.End()
	}
	slices.SortStableFunc(c.report.Damages, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(order(a.What), order(b.What)), strings.Compare(a.Path, b.Path))
	})
	if err != nil {
		return c.report, fmt.Errorf("check the store %s: %w", s.dir, err)
	}
	return c.report, nil
}

func order(what string) int {
	return slices.Index([]string{StoreDamage, TagDamage, ManifestDamage, MetadataDamage, IndexDamage, PackDamage, ChunkDamage, TraceDamage,
		BlobDamage}, what)
}

// check is one run of Check.
type check struct {
	store  *Store
	o      CheckOptions
	txn    *Txn // nil on a store that cannot be written
	report *CheckReport

	blobs map[format.Digest]*Damage // manifests, metadata, indexes that were looked at; nil is whole
	packs map[format.Digest]*packCheck

	images map[format.Digest]*imageCheck

	mu          sync.Mutex // of what follows, and of the report while packs are read
	done, total int64
}

// target is one image and a name for it.
type target struct {
	name  string
	image format.Digest
}

func (c *check) run(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	if err := c.storeFile(ctx); err != nil {
		return err
	}
	targets, err := c.targets(ctx)
	if err != nil {
		return err
	}
	var whole []*imageCheck
	for _, t := range targets {
		i, err := c.image(ctx, t)
		if err != nil {
			return err
		}
		if i != nil {
			whole = append(whole, i)
		}
	}
	c.report.Images = len(targets)
	if err := c.readPacks(ctx, whole); err != nil {
		return err
	}
	if err := c.nameFiles(whole); err != nil {
		return err
	}
	if len(c.o.Refs) == 0 {
		return c.rest(ctx)
	}
	return nil
}

// begin takes a lease where it can, so that GC does not take away what is being read.
func (c *check) begin(ctx context.Context) error {
	t, err := c.store.Begin(ctx)
	if err == nil {
		c.txn = t
		_, err = t.holdAll(ctx)
		return err
	}
	if c.o.Peer == nil && (errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)) {
		return nil
	}
	return err
}

func (c *check) add(d Damage) *Damage {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Damages = append(c.report.Damages, d)
	return &c.report.Damages[len(c.report.Damages)-1]
}

func (c *check) storeFile(ctx context.Context) error {
	err := c.store.checkStoreFile()
	if err == nil {
		return nil
	}
	d := Damage{What: StoreDamage, Path: format.StoreFile, Error: err.Error()}
	if c.o.Peer != nil {
		if err := c.store.locked(ctx, exclusive, c.store.writeStoreFile); err != nil {
			return err
		}
		d.Mended = true
	}
	c.add(d)
	return nil
}

// targets gives the images to check, each once.
func (c *check) targets(ctx context.Context) ([]target, error) {
	if len(c.o.Refs) > 0 {
		return c.asked(ctx)
	}
	names, err := c.store.named()
	if err != nil {
		return nil, err
	}
	var list []target
	for _, n := range names {
		t := target{n.Name, n.Image}
		if fromPin := format.CheckTag(n.Name) != nil || n.Name == pinPath(n.Image); fromPin && n.Damage == nil {
			t.name = n.Image.String()
		} else if ok, err := c.tag(ctx, &t, n.Damage); !ok || err != nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		list = append(list, t)
	}
	return list, nil
}

func (c *check) asked(ctx context.Context) ([]target, error) {
	var list []target
	for _, ref := range c.o.Refs {
		t := target{name: ref}
		if d, err := format.ParseDigest(ref); err == nil {
			t.image = d
			list = append(list, t)
			continue
		}
		d, err := c.store.Tag(ref)
		if err != nil && !fault.Is(err, fault.Corrupt) {
			return nil, err
		}
		t.image = d
		ok, err := c.tag(ctx, &t, err)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, t)
		}
	}
	return list, nil
}

// tag checks that a tag names an image that can be had, and says whether it does in the end. A tag that is unreadable, or whose image is
// neither here nor at the peer, is taken over from the peer.
func (c *check) tag(ctx context.Context, t *target, damage error) (bool, error) {
	if damage == nil {
		_, damage = c.store.Manifest(t.image)
		if damage == nil || !unreadable(damage) {
			return true, nil // of another error the image's check will speak
		}
		if _, err := os.Lstat(c.store.path(format.BlobPath(t.image))); err == nil || c.atPeer(ctx, t.image) {
			return true, nil // the manifest is damaged, or can be fetched: no matter of the tag
		}
		damage = fmt.Errorf("it names an image that is not there: %w", damage)
	}
	d := Damage{What: TagDamage, Images: []string{t.name}, Path: format.TagDir + "/" + t.name, Error: damage.Error()}
	defer func() { c.add(d) }()
	if c.o.Peer == nil {
		return false, nil
	}
	image, err := c.o.Peer.Tag(ctx, t.name)
	if err == nil && !c.atPeer(ctx, image) {
		err = fault.New(fault.NotFound, "the image %s that it names there is missing", image)
	}
	if err != nil {
		d.Error += "; not mended: " + err.Error()
		return false, ctx.Err()
	}
	if err := c.store.locked(ctx, exclusive, func() error { return c.store.setTag(d.Path, image) }); err != nil {
		return false, err
	}
	t.image, d.Mended = image, true
	return true, nil
}

func (c *check) atPeer(ctx context.Context, image format.Digest) bool {
	if c.o.Peer == nil {
		return false
	}
	_, err := c.o.Peer.Blob(ctx, image, format.MaxManifest)
	return err == nil
}
