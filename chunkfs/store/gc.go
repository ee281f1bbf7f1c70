package store

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Grace is how long GC keeps what nothing holds when nobody says otherwise: a reader that opened an image by a tag that then moved has
// this long to fetch the rest.
const Grace = 24 * time.Hour

// GCOptions say what a collection may remove.
type GCOptions struct {
	Grace  time.Duration // 0 keeps nothing that is not held
	DryRun bool          // only say what would go
	// Removed is told of each blob that goes, or would; it may be nil.
	Removed func(d format.Digest, size int64)
}

// GCReport is what a collection did. Bytes are of files.
type GCReport struct {
	Images      int   `json:"images"` // that a tag or a pin holds
	KeptBlobs   int64 `json:"kept_blobs"`
	KeptBytes   int64 `json:"kept_bytes"`
	YoungBlobs  int64 `json:"young_blobs"` // of the kept: nothing holds them but the grace or a lease
	YoungBytes  int64 `json:"young_bytes"`
	Removed     int64 `json:"removed_blobs"`
	RemovedSize int64 `json:"removed_bytes"`
	Traces      int   `json:"removed_traces"`
	Leases      int   `json:"abandoned_leases"`
	Temps       int   `json:"abandoned_files"` // of transactions that did not end
	TempBytes   int64 `json:"abandoned_bytes"`
	DryRun      bool  `json:"dry_run"`
}

// sweepBatch is how many blobs are removed under one hold of the lock: builders wait meanwhile.
const sweepBatch = 128

// GC removes what nothing holds. It runs beside builders and readers. When a tag's image cannot be read nothing is removed, for what it
// needs is not known: the error, of kind Corrupt or NotFound, names the tag.
func (s *Store) GC(ctx context.Context, o GCOptions) (GCReport, error) {
	g := &collection{store: s, o: o, ctx: ctx, now: time.Now(), live: map[format.Digest]claim{}, images: map[format.Digest]claim{}}
	g.report.DryRun = o.DryRun
	if err := g.run(); err != nil {
		return g.report, fmt.Errorf("collect in the store %s: %w", s.dir, err)
	}
	return g.report, nil
}

// collection is one run of GC.
type collection struct {
	store  *Store
	o      GCOptions
	ctx    context.Context //nolint:containedctx // it is one operation
	now    time.Time
	report GCReport

	live   map[format.Digest]claim // blobs of images that something holds
	images map[format.Digest]claim // those that were marked
	leased map[format.Digest]bool  // as of the last look
}

// claim is what holds an image, the stronger one when there are several.
type claim uint8

const (
	passing claim = iota + 1 // the grace, or a lease
	lasting                  // a tag or a pin
)

type blobFile struct {
	digest format.Digest
	size   int64
}

// run marks first without the lock, which takes long, and then again with it what has come meanwhile, which is little.
func (g *collection) run() error {
	if err := g.store.locked(g.ctx, exclusive, g.reap); err != nil {
		return err
	}
	if err := g.mark(); err != nil {
		return err
	}
	old, err := g.list()
	if err != nil {
		return err
	}
	for len(old) > 0 {
		n := min(len(old), sweepBatch)
		if err := g.store.locked(g.ctx, exclusive, func() error { return g.sweep(old[:n]) }); err != nil {
			return err
		}
		old = old[n:]
	}
	for _, c := range g.images {
		if c == lasting {
			g.report.Images++
		}
	}
	return g.store.locked(g.ctx, exclusive, g.forget)
}

// reap removes leases whose owners died, and what they had not finished.
func (g *collection) reap() error {
	names, err := g.leases()
	if err != nil {
		return err
	}
	alive := map[string]bool{"small": false}
	for _, name := range names {
		h, err := g.store.readLease(name)
		if err != nil {
			return fmt.Errorf("read the lease %s: %w", name, err)
		}
		if alive[name] = h.alive; h.alive {
			continue
		}
		g.report.Leases++
		if err := g.unlink(leaseDir + "/" + name); err != nil {
			return err
		}
	}
	return g.reapTemps(alive)
}

func (g *collection) leases() (names []string, err error) {
	entries, err := os.ReadDir(g.store.path(leaseDir))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), leasePrefix) && !unfinished(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// reapTemps removes temporary files that no lease alive owns. That of small writes is under the lock that we have.
func (g *collection) reapTemps(alive map[string]bool) error {
	entries, err := os.ReadDir(g.store.path(leaseDir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		owner, _, _ := strings.Cut(strings.TrimSuffix(e.Name(), temporary), ".")
		if !unfinished(e.Name()) || alive[owner] {
			continue
		}
		if st, err := e.Info(); err == nil {
			g.report.TempBytes += st.Size()
		}
		g.report.Temps++
		if err := g.unlink(leaseDir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func (g *collection) unlink(rel string) error {
	if g.o.DryRun {
		return nil
	}
	if err := os.Remove(g.store.path(rel)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// expired says that something last touched then has had its grace.
func (g *collection) expired(then time.Time) bool { return g.now.Sub(then) >= g.o.Grace }

// list gives the blobs that no image holds and whose grace is over, and counts the others.
func (g *collection) list() (old []blobFile, err error) {
	err = g.store.walkBlobs(func(d format.Digest, e fs.DirEntry) error {
		if err := g.ctx.Err(); err != nil {
			return err
		}
		st, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if g.live[d] > 0 || !g.expired(st.ModTime()) {
			g.keep(d, st.Size())
			return nil
		}
		old = append(old, blobFile{d, st.Size()})
		return nil
	})
	return old, err
}

func (g *collection) keep(d format.Digest, size int64) {
	g.report.KeptBlobs++
	g.report.KeptBytes += size
	if g.live[d] != lasting {
		g.report.YoungBlobs++
		g.report.YoungBytes += size
	}
}

// sweep removes those of old that nothing has taken hold of meanwhile.
func (g *collection) sweep(old []blobFile) error {
	if err := g.mark(); err != nil {
		return err
	}
	for _, b := range old {
		st, err := os.Lstat(g.store.path(format.BlobPath(b.digest)))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if g.live[b.digest] > 0 || g.leased[b.digest] || !g.expired(st.ModTime()) {
			g.keep(b.digest, st.Size())
			continue
		}
		if err := g.unlink(format.BlobPath(b.digest)); err != nil {
			return err
		}
		g.report.Removed++
		g.report.RemovedSize += st.Size()
		if g.o.Removed != nil {
			g.o.Removed(b.digest, st.Size())
		}
	}
	return nil
}

// forget removes what speaks of images that are gone: traces, and notes of names that they had.
func (g *collection) forget() error {
	former, err := g.store.digestNames(formerDir)
	if err != nil {
		return err
	}
	for _, d := range former {
		rel := formerDir + "/" + d.Algorithm.String() + "-" + d.Sum.String()
		st, err := os.Lstat(g.store.path(rel))
		if err == nil && g.expired(st.ModTime()) {
			err = g.unlink(rel)
		}
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return g.forgetTraces()
}

func (g *collection) forgetTraces() error {
	dirs, err := filepath.Glob(g.store.path(format.TraceDir) + "/*/*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		d, err := format.ParseDigest(filepath.Base(filepath.Dir(dir)) + ":" + filepath.Base(dir))
		if err != nil {
			continue
		}
		if _, err := os.Lstat(g.store.path(format.BlobPath(d))); !os.IsNotExist(err) {
			continue
		}
		g.report.Traces++
		if g.o.DryRun {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// walkBlobs visits every blob; files with other names are none of ours.
func (s *Store) walkBlobs(visit func(format.Digest, fs.DirEntry) error) error {
	root := s.path(format.BlobDir)
	return filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		algorithm, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		d, err := format.ParseDigest(algorithm + ":" + filepath.Base(p))
		if err != nil || s.path(format.BlobPath(d)) != p {
			return nil
		}
		return visit(d, e)
	})
}

// unreadable says of an error of an image that the image is at fault, and not the disk.
func unreadable(err error) bool {
	return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt)
}
