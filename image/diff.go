package image

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// Diff is what distinguishes two images, by path. A directory that came or went is there with all that it holds.
type Diff struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Added   []Entry   `json:"added"`
	Removed []Entry   `json:"removed"`
	Changed []Changed `json:"changed"`
	Chunks  Sharing   `json:"chunks"`
}

// Entry is a path of one image, as format.QuotePath.
type Entry struct {
	Path string `json:"path"`
	Type string `json:"type"`
	Size int64  `json:"size,omitempty"` // of a regular file
}

// Changed is a path of both images. What is of content, type, mode, owner, time, attributes, target, device, links.
type Changed struct {
	Path  string   `json:"path"`
	What  []string `json:"what"`
	Sizes [2]int64 `json:"sizes"` // of regular files, before and after
}

// Sharing counts the chunks of two images; bytes are as stored.
type Sharing struct {
	Shared      int   `json:"shared"`
	SharedBytes int64 `json:"shared_bytes"`
	New         int   `json:"new"` // that who has the first must fetch for the second
	NewBytes    int64 `json:"new_bytes"`
	Gone        int   `json:"gone"`
	GoneBytes   int64 `json:"gone_bytes"`
}

// Compare says what distinguishes two images. The content of files is read only where the chunks do not show whether it is the same.
func Compare(ctx context.Context, a, b *Image) (*Diff, error) {
	from, err := a.Tree(ctx)
	if err != nil {
		return nil, err
	}
	to, err := b.Tree(ctx)
	if err != nil {
		return nil, err
	}
	c := &comparison{ctx: ctx, a: newSide(ctx, a, from), b: newSide(ctx, b, to),
		out: &Diff{From: a.Digest.String(), To: b.Digest.String(), Added: []Entry{}, Removed: []Entry{}, Changed: []Changed{}}}
	defer c.a.content.Close()
	defer c.b.content.Close()
	if err := c.both(".", from, to); err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", a.Ref, b.Ref, err)
	}
	c.out.Chunks = sharing(a.Index, b.Index)
	return c.out, nil
}

func sharing(a, b *format.Index) (s Sharing) {
	had := make(map[format.Sum]bool, len(a.Chunks))
	for _, c := range a.Chunks {
		had[c.Sum] = true
	}
	for _, c := range b.Chunks {
		if had[c.Sum] && a.Algorithm == b.Algorithm {
			s.Shared++
			s.SharedBytes += int64(c.Stored)
			had[c.Sum] = false
			continue
		}
		s.New++
		s.NewBytes += int64(c.Stored)
	}
	for _, c := range a.Chunks {
		if had[c.Sum] {
			s.Gone++
			s.GoneBytes += int64(c.Stored)
		}
	}
	return s
}

// side is one of the two images.
type side struct {
	img     *Image
	content *content
	names   map[*erofs.Node]int
	first   map[*erofs.Node]string // of inodes of several names
}

func newSide(ctx context.Context, i *Image, root *erofs.Node) side {
	return side{img: i, content: i.content(ctx), names: names(root), first: map[*erofs.Node]string{}}
}

// link gives the first name of an inode that has several, "" of others.
func (s side) link(at string, n *erofs.Node) string {
	if s.names[n] < 2 {
		return ""
	}
	if s.first[n] == "" {
		s.first[n] = at
	}
	return s.first[n]
}

type comparison struct {
	ctx  context.Context //nolint:containedctx // it is one operation
	a, b side
	out  *Diff
}

// both compares what has the same path.
func (c *comparison) both(at string, a, b *erofs.Node) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	what, err := c.differences(at, a, b)
	if err != nil {
		return fmt.Errorf("%s: %w", format.QuotePath(at), err)
	}
	if len(what) > 0 {
		c.out.Changed = append(c.out.Changed, Changed{format.QuotePath(at), what, [2]int64{a.Size, b.Size}})
	}
	if !isDir(a) || !isDir(b) {
		c.inside(at, a, c.a, &c.out.Removed)
		c.inside(at, b, c.b, &c.out.Added)
		return nil
	}
	return c.entries(at, a.Entries, b.Entries)
}

// entries goes through two sorted directories at once.
func (c *comparison) entries(at string, a, b []erofs.Entry) error {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			c.alone(path.Join(at, a[0].Name), a[0].Node, c.a, &c.out.Removed)
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			c.alone(path.Join(at, b[0].Name), b[0].Node, c.b, &c.out.Added)
			b = b[1:]
		default:
			if err := c.both(path.Join(at, a[0].Name), a[0].Node, b[0].Node); err != nil {
				return err
			}
			a, b = a[1:], b[1:]
		}
	}
	return nil
}

// alone lists what only one image has, with all below it.
func (c *comparison) alone(at string, n *erofs.Node, s side, list *[]Entry) {
	s.link(at, n)
	*list = append(*list, Entry{format.QuotePath(at), typeName(n.Mode), n.Size})
	c.inside(at, n, s, list)
}

func (c *comparison) inside(at string, n *erofs.Node, s side, list *[]Entry) {
	for _, e := range n.Entries {
		c.alone(path.Join(at, e.Name), e.Node, s, list)
	}
}

// typeName is safepath.TypeName without the article.
func typeName(mode uint32) string {
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return "symbolic link"
	}
	_, name, _ := strings.Cut(safepath.TypeName(mode), " ")
	return name
}

func (c *comparison) differences(at string, a, b *erofs.Node) (what []string, err error) {
	note := func(word string, differs bool) {
		if differs {
			what = append(what, word)
		}
	}
	aLink, bLink := c.a.link(at, a), c.b.link(at, b)
	if a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT {
		return []string{"type"}, nil
	}
	if isFile(a) {
		same, err := c.sameContent(a, b)
		if err != nil {
			return nil, err
		}
		note("content", !same)
	}
	note("target", a.Target != b.Target)
	note("device", isDevice(a) && a.Rdev != b.Rdev)
	note("mode", a.Mode != b.Mode)
	note("owner", a.UID != b.UID || a.GID != b.GID)
	note("time", !a.ModTime.Equal(b.ModTime))
	note("attributes", !sameXattrs(a.Xattrs, b.Xattrs))
	note("links", aLink != bLink)
	return what, nil
}

// sameXattrs compares sorted lists.
func sameXattrs(a, b []erofs.Xattr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name || !bytes.Equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}
