package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// TagInfo is a tag as it is listed.
type TagInfo struct {
	Name    string
	Image   format.Digest
	Changed time.Time
	Damage  error // why it cannot be read; Image is zero then
}

// Tag says what a tag names. The error is of kind NotFound, or Corrupt when it is damaged.
func (s *Store) Tag(name string) (format.Digest, error) {
	rel, err := format.TagPath(name)
	if err != nil {
		return format.Digest{}, err
	}
	d, err := s.readTag(rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EISDIR) {
		err := fault.New(fault.NotFound, "the store %s has no tag %s", s.dir, name)
		return format.Digest{}, fault.Hintf(err, "`windlass image ls %s` lists those that it has", s.dir)
	}
	if err != nil {
		return format.Digest{}, fmt.Errorf("read the tag %s: %w", name, err)
	}
	return d, nil
}

// readTag reads a tag's file: one line with the digest, and nothing else.
func (s *Store) readTag(rel string) (format.Digest, error) {
	b, err := readSmall(s.path(rel), 256)
	if err != nil {
		return format.Digest{}, err
	}
	line, ended := strings.CutSuffix(string(b), "\n")
	d, err := format.ParseDigest(line)
	if err != nil || !ended {
		return format.Digest{}, fault.New(fault.Corrupt, "%s is damaged: it is not a digest and the end of a line", s.path(rel))
	}
	return d, nil
}

// Tags lists all tags by name.
func (s *Store) Tags() ([]TagInfo, error) {
	var list []TagInfo
	root := s.path(format.TagDir)
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile, or the store was copied without empty directories
			return nil
		}
		if err != nil || e.IsDir() || unfinished(e.Name()) {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		info, err := s.tagInfo(filepath.ToSlash(rel), e)
		if err == nil {
			list = append(list, info)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the tags of %s: %w", s.dir, err)
	}
	return list, nil
}

func (s *Store) tagInfo(name string, e fs.DirEntry) (TagInfo, error) {
	info := TagInfo{Name: name}
	st, err := e.Info()
	if err != nil {
		return info, err
	}
	info.Changed = st.ModTime()
	if err := format.CheckTag(name); err != nil {
		info.Damage = fault.New(fault.Corrupt, "%w", err)
		return info, nil
	}
	info.Image, err = s.readTag(format.TagDir + "/" + name)
	if fault.Is(err, fault.Corrupt) {
		info.Damage, err = err, nil
	}
	return info, err
}

// setTag is called under the exclusive lock.
func (s *Store) setTag(rel string, d format.Digest) error {
	old, err := s.readTag(rel)
	switch {
	case err == nil && old == d:
		return nil
	case err == nil:
		if err := s.leave(old); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist), fault.Is(err, fault.Corrupt):
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		return fault.Hintf(fault.New(fault.Exists, "a tag cannot be the beginning of another, as a file is no directory"),
			"remove the other with `windlass image rm`, or take another name")
	default:
		return err
	}
	return s.replace(rel, []byte(d.String()+"\n"))
}

// leave notes that an image lost a tag or a pin now: GC keeps it for the grace, for readers that opened it by that name. It is called
// under the exclusive lock, before the name goes.
func (s *Store) leave(d format.Digest) error {
	return s.replace(formerDir+"/"+d.Algorithm.String()+"-"+d.Sum.String(), nil)
}

// RemoveTag removes a tag, a damaged one too, and says what it named. The image stays until GC.
func (s *Store) RemoveTag(ctx context.Context, name string) (format.Digest, error) {
	rel, err := format.TagPath(name)
	if err != nil {
		return format.Digest{}, err
	}
	var d format.Digest
	err = s.locked(ctx, exclusive, func() (err error) {
		if d, err = s.Tag(name); err != nil && !fault.Is(err, fault.Corrupt) {
			return err
		}
		if err == nil {
			if err := s.leave(d); err != nil {
				return err
			}
		}
		if err := durable.Remove(ctx, s.path(rel)); err != nil {
			return err
		}
		s.prune(path.Dir(rel))
		return nil
	})
	if err != nil {
		return d, fmt.Errorf("remove the tag %s: %w", name, err)
	}
	return d, nil
}

// prune removes directories of tags that became empty, so that their names are free again.
func (s *Store) prune(rel string) {
	for ; rel != format.TagDir && rel != "."; rel = path.Dir(rel) {
		if os.Remove(s.path(rel)) != nil {
			return
		}
	}
}

// Resolve gives the image that ref names: a tag, or a digest of a manifest that is there.
func (s *Store) Resolve(ref string) (format.Digest, error) {
	d, err := format.ParseDigest(ref)
	if err != nil {
		return s.Tag(ref)
	}
	if _, err := s.Manifest(d); err != nil {
		return format.Digest{}, err
	}
	return d, nil
}
