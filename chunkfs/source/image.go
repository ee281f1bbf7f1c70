package source

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// What there may be of the documents that describe an image.
const (
	maxDocument  = 16 << 20
	maxDocuments = 64 << 20
	maxNested    = 8 // indexes in indexes
	maxLayers    = 4096
)

// The names of the files of an image layout (opencontainers/image-spec, image-layout.md) and of a docker archive.
const (
	layoutFile     = "oci-layout"
	indexFile      = "index.json"
	dockerManifest = "manifest.json"
)

// layer is one of an image.
type layer struct {
	path   string
	digest v1.Hash // of the file; empty: not known
	diffID v1.Hash // of what is in it, decompressed
	size   int64   // of the file; -1: not known
}

// candidate is an image that a layout has.
type candidate struct {
	v1.Descriptor
	names []string // of those in the index that lead to it
}

// chooser finds the one image of a layout that is wanted.
type chooser struct {
	blobs blobs
	ref   string
	want  v1.Platform
	asked bool // for that platform
	found []candidate

	read int64 // bytes of documents
}

// newChooser takes the platform of this machine when none is asked for.
func newChooser(b blobs, o Options) (*chooser, error) {
	c := &chooser{blobs: b, ref: o.Ref, asked: o.Platform != ""}
	if !c.asked {
		c.want = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
		return c, nil
	}
	p, err := v1.ParsePlatform(o.Platform)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return nil, fault.Hintf(fault.New(fault.Invalid, "the platform %q is not one", o.Platform), "write it as linux/amd64 or linux/arm64/v8")
	}
	c.want = plainArm(*p)
	return c, nil
}

// plainArm leaves out a variant that says no more than the architecture does.
func plainArm(p v1.Platform) v1.Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p
}

// choose gives the layers of the image, the lowest first.
func (c *chooser) choose() ([]layer, error) {
	raw, err := c.document(indexFile, -1, v1.Hash{})
	if err != nil {
		return nil, err
	}
	if err := c.collect(raw, nil, 0); err != nil {
		return nil, err
	}
	one, err := c.one()
	if err != nil {
		return nil, err
	}
	return c.layers(one)
}

// collect finds the images of an index that the reference names.
func (c *chooser) collect(raw []byte, names []string, depth int) error {
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return damaged("its index cannot be read: %w", err)
	}
	if depth > maxNested {
		return damaged("it has indexes in indexes, more than %d deep", maxNested)
	}
	for _, d := range index.Manifests {
		if len(c.found) > maxBlobs {
			return damaged("it has more than %d images", maxBlobs)
		}
		all := append(names[:len(names):len(names)], namesOf(d)...)
		switch {
		case d.MediaType.IsIndex():
			raw, err := c.document(blobPath(d.Digest), d.Size, d.Digest)
			if err != nil {
				return err
			}
			if err := c.collect(raw, all, depth+1); err != nil {
				return err
			}
		case (d.MediaType.IsImage() || d.MediaType == "") && c.named(all):
			c.found = append(c.found, candidate{d, all})
		}
	}
	return nil
}

// namesOf gives what a descriptor may be called by.
func namesOf(d v1.Descriptor) []string {
	names := []string{d.Digest.String()}
	for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
		if n := d.Annotations[key]; n != "" {
			names = append(names, n)
		}
	}
	return names
}

// named says whether the reference is one of the names: a whole one, or the tag of one.
func (c *chooser) named(names []string) bool {
	if c.ref == "" {
		return true
	}
	for _, n := range names {
		for _, ref := range []string{c.ref, c.ref + ":latest"} {
			if n == ref || strings.HasSuffix(n, "/"+ref) {
				return true
			}
		}
	}
	return false
}

// one gives the image for the platform.
func (c *chooser) one() (candidate, error) {
	var fit, other []candidate
	for _, f := range c.found {
		switch {
		case f.Platform == nil || plainArm(*f.Platform).Satisfies(c.want):
			fit = append(fit, f)
		case f.Platform.OS != "unknown": // what describes how an image was built stands beside it
			other = append(other, f)
		}
	}
	if len(fit) == 0 && !c.asked && len(other) == 1 {
		fit = other
	}
	fit = unique(fit)
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return candidate{}, fault.Hintf(fault.New(fault.Invalid, "it has %d images that fit: %s", len(fit), describe(fit)), "choose one with --ref")
	case len(other) > 0:
		return candidate{}, fault.Hintf(fault.New(fault.NotFound, "it has no image for %s, but: %s", c.want.String(), describe(other)), "choose one with --platform")
	case c.ref != "":
		return candidate{}, fault.New(fault.NotFound, "it has no image %q", c.ref)
	}
	return candidate{}, fault.New(fault.NotFound, "it has no image")
}

// unique leaves one of those that are the same image.
func unique(list []candidate) (out []candidate) {
	seen := map[v1.Hash]bool{}
	for _, c := range list {
		if !seen[c.Digest] {
			out = append(out, c)
		}
		seen[c.Digest] = true
	}
	return out
}

func describe(list []candidate) string {
	var words []string
	for i, c := range list {
		if i == 10 {
			words = append(words, "…")
			break
		}
		word := clip(c.names[len(c.names)-1])
		if c.Platform != nil {
			word += " (" + clip(c.Platform.String()) + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// layers reads the manifest and the configuration of an image.
func (c *chooser) layers(image candidate) ([]layer, error) {
	raw, err := c.document(blobPath(image.Digest), image.Size, image.Digest)
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil || m.SchemaVersion != 2 {
		return nil, damaged("its manifest %s cannot be read (schema version 2 is asked for): %w", image.Digest, err)
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, fault.New(fault.Unsupported, "%s is not an image of a root file system but has a configuration of type %q", image.Digest, clip(string(m.Config.MediaType)))
	}
	raw, err = c.document(blobPath(m.Config.Digest), m.Config.Size, m.Config.Digest)
	if err != nil {
		return nil, err
	}
	diffs, err := c.config(raw, len(m.Layers))
	if err != nil {
		return nil, err
	}
	var layers []layer
	for i, l := range m.Layers {
		if err := checkLayerType(l); err != nil {
			return nil, err
		}
		layers = append(layers, layer{path: blobPath(l.Digest), digest: l.Digest, diffID: diffs[i], size: l.Size})
	}
	return layers, nil
}

func checkLayerType(l v1.Descriptor) error {
	if strings.Contains(string(l.MediaType), "encrypted") || !l.MediaType.IsLayer() && !strings.HasPrefix(string(l.MediaType), string(types.OCIUncompressedLayer)) {
		return fault.New(fault.Unsupported, "its layer %s is of type %q, and only tar is read", l.Digest, clip(string(l.MediaType)))
	}
	return nil
}

// config gives the digests of the layers' content, and refuses what is for another platform than the one that was asked for.
func (c *chooser) config(raw []byte, layers int) ([]v1.Hash, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, damaged("its configuration cannot be read: %w", err)
	}
	want := c.want
	if config.Variant == "" { // many leave it out, where the index has it
		want.Variant = ""
	}
	if has := config.Platform(); c.asked && has != nil && has.OS != "" && !plainArm(*has).Satisfies(want) {
		return nil, fault.New(fault.NotFound, "it has no image for %s, but: %s", c.want.String(), has.String())
	}
	if diffs := config.RootFS.DiffIDs; len(diffs) == layers && layers <= maxLayers {
		return diffs, nil
	}
	return nil, damaged("it has %d layers, of which its configuration names %d; %d are possible", layers, len(config.RootFS.DiffIDs), maxLayers)
}

// document reads a small file of the layout and holds it against its digest, if that is known.
func (c *chooser) document(name string, size int64, digest v1.Hash) ([]byte, error) {
	r, has, err := c.blobs.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if has > maxDocument || size >= 0 && has != size {
		return nil, damaged("%s has %d bytes; it should have %d, and %d are possible", name, has, size, maxDocument)
	}
	if c.read += has; c.read > maxDocuments {
		return nil, damaged("what describes its images has more than %d bytes", maxDocuments)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if digest.Hex == "" {
		return raw, nil
	}
	h, err := v1.Hasher(digest.Algorithm)
	if err != nil {
		return nil, fault.New(fault.Unsupported, "%s: %w", name, err)
	}
	h.Write(raw)
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != digest.Hex {
		return nil, damaged("%s is not what its name says: its digest is %s", name, got)
	}
	return raw, nil
}

func blobPath(d v1.Hash) string { return "blobs/" + d.Algorithm + "/" + d.Hex }
