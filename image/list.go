package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Listed is one tag of a store, or one pin whose image has no tag. Bytes are as stored where nothing else is said.
type Listed struct {
	Tag     string            `json:"tag,omitempty"`
	Image   string            `json:"image,omitempty"`
	Changed time.Time         `json:"changed"`
	Files   int64             `json:"files"`
	Data    int64             `json:"data"`   // plain, of the files
	Stored  int64             `json:"stored"` // of the chunks
	Pinned  bool              `json:"pinned"`
	Roles   []string          `json:"traces,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Error   string            `json:"error,omitempty"` // why it cannot be read
}

// List lists what a store in a directory holds, by tag. A web server lists nothing.
func List(dir string) ([]Listed, error) {
	if strings.Contains(dir, "://") {
		return nil, fault.Hintf(fault.New(fault.Unsupported, "a store behind a URL cannot be listed: web servers list nothing that we could rely on"),
			"ask for a tag by its name with `windlass image inspect`, or list the store's directory on its server")
	}
	s, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	tags, err := s.Tags()
	if err != nil {
		return nil, err
	}
	pins, err := s.Pins()
	if err != nil {
		return nil, err
	}
	list := []Listed{}
	for _, t := range tags {
		l := Listed{Tag: t.Name, Changed: t.Changed}
		if t.Damage != nil {
			l.Error = t.Damage.Error()
		} else {
			l.fill(s, t.Image)
		}
		list = append(list, l)
	}
	for _, p := range pins {
		bare := true
		for i := range list {
			if list[i].Image == p.Image.String() {
				list[i].Pinned, bare = true, false
			}
		}
		if bare {
			l := Listed{Changed: p.Time, Pinned: true}
			l.fill(s, p.Image)
			list = append(list, l)
		}
	}
	return list, nil
}

func (l *Listed) fill(s *store.Store, image format.Digest) {
	l.Image = image.String()
	m, err := s.Manifest(image)
	if err != nil {
		l.Error = err.Error()
		return
	}
	l.Files, l.Data, l.Stored, l.Labels = m.Files, m.Data, m.Stored, m.Labels
	l.Roles, err = s.Roles(image)
	if err != nil {
		l.Error = err.Error()
	}
}

// Summary is all about one image that its manifest and index say. Bytes are as stored where nothing else is said.
type Summary struct {
	Image     string            `json:"image"`
	Tags      []string          `json:"tags,omitempty"` // of a store in a directory
	Pinned    string            `json:"pinned,omitempty"`
	Roles     []string          `json:"traces,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Algorithm string            `json:"algorithm"`
	Files     int64             `json:"files"`    // inodes
	Data      int64             `json:"data"`     // plain, of the files
	Device    int64             `json:"device"`   // plain, of the data device, each content once, with padding and holes
	Holes     int64             `json:"holes"`    // of the device
	Metadata  int64             `json:"metadata"` // plain
	Stored    int64             `json:"stored"`   // chunks
	Upfront   int64             `json:"upfront"`  // manifest, index and metadata: fetched at the mount
	Chunks    int               `json:"chunks"`
	Smallest  uint32            `json:"smallest_chunk"` // plain
	Median    uint32            `json:"median_chunk"`
	Largest   uint32            `json:"largest_chunk"`
	Codecs    map[string]int    `json:"codecs"` // chunks by codec
	Packs     []PackSummary     `json:"packs"`
}

// PackSummary is one pack that an image needs.
type PackSummary struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Used   int64  `json:"used"` // by chunks of this image
	Chunks int    `json:"chunks"`
}

// Summary says what the image is made of.
func (i *Image) Summary(ctx context.Context) (*Summary, error) {
	m, x := i.Manifest, i.Index
	manifest, err := m.Encode()
	if err != nil {
		return nil, err
	}
	s := &Summary{Image: i.Digest.String(), Labels: m.Labels, Algorithm: m.Algorithm.String(), Files: m.Files, Data: m.Data, Device: m.Device,
		Metadata: m.Metadata.Plain, Stored: m.Stored, Upfront: int64(len(manifest)) + m.Index.Size + m.Metadata.Size,
		Chunks: len(x.Chunks), Codecs: map[string]int{}, Packs: make([]PackSummary, len(x.Packs))}
	for n, p := range x.Packs {
		s.Packs[n] = PackSummary{Digest: format.Digest{Algorithm: x.Algorithm, Sum: p.Sum}.String(), Size: p.Size}
	}
	sizes := make([]uint32, 0, len(x.Chunks))
	for _, c := range x.Chunks {
		p := &s.Packs[c.Pack]
		p.Used += int64(c.Stored)
		p.Chunks++
		s.Codecs[c.Codec.String()]++
		sizes = append(sizes, c.Size)
	}
	for _, e := range x.Extents {
		if e.Chunk == format.Zero {
			s.Holes += e.Size
		}
	}
	if slices.Sort(sizes); len(sizes) > 0 {
		s.Smallest, s.Median, s.Largest = sizes[0], sizes[len(sizes)/2], sizes[len(sizes)-1]
	}
	return s, i.owned(s)
}

// owned adds what only the store's directory tells.
func (i *Image) owned(s *Summary) error {
	if i.origin.dir == "" {
		return nil
	}
	st, err := store.Open(i.origin.dir)
	if err != nil {
		return err
	}
	tags, err := st.Tags()
	if err != nil {
		return err
	}
	for _, t := range tags {
		if t.Image == i.Digest {
			s.Tags = append(s.Tags, t.Name)
		}
	}
	pins, err := st.Pins()
	if err != nil {
		return err
	}
	for _, p := range pins {
		if p.Image == i.Digest {
			s.Pinned = "pinned"
			if p.Reason != "" {
				s.Pinned = p.Reason
			}
		}
	}
	s.Roles, err = st.Roles(i.Digest)
	return err
}
