package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// The layout, of which a server uses one version and leaves others alone:
//
//	<dir>/v1/cache.json                  {"layout":1}
//	<dir>/v1/lock                        held by the server that runs
//	<dir>/v1/trash/                      on its way out
//	<dir>/v1/images/<alg>-<hex>/         an image, by the digest of its manifest
//	    manifest, index                  as stored, known by their digests; the manifest's time is that of the image's last use
//	    metadata, metadata.sum           EROFS, plain, and its digest
//	    data                             the data device, sparse
//	    present                          which extents are in it: a hint
//	    pin                              when it is pinned
//	    direct                           when the kernel reads data itself: the boot in which it does
const (
	layoutDir  = "v1"
	layoutFile = "cache.json"
	layout     = 1

	manifestFile = "manifest"
	indexFile    = "index"
	metadataFile = "metadata"
	sumFile      = "metadata.sum"
	dataFile     = "data"
	presentFile  = "present"
	pinMark      = "pin"
	directMark   = "direct"
	tempSuffix   = ".tmp"
)

// place makes the directories and takes the lock.
func (c *Cache) place() error {
	root := filepath.Join(c.dir, layoutDir)
	c.images = filepath.Join(root, "images")
	for _, dir := range []string{root, c.images, c.trash()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	if err := c.takeLock(filepath.Join(root, "lock")); err != nil {
		return err
	}
	if err := c.checkLayout(filepath.Join(root, layoutFile)); err != nil {
		return err
	}
	// What a predecessor did not finish deleting.
	return errors.Join(os.RemoveAll(c.trash()), os.Mkdir(c.trash(), 0o700))
}

func (c *Cache) trash() string { return filepath.Join(c.dir, layoutDir, "trash") }

func (c *Cache) takeLock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			busy := fault.New(fault.Busy, "another chunkfs server uses it")
			return fault.Hintf(busy, "give each server a directory of its own, or end the other one")
		}
		return os.NewSyscallError("flock", err)
	}
	c.lock = f
	return nil
}

// checkLayout refuses a directory of a version that this one does not know, and does not touch it: it may be of use to that. A file that
// names no version is damaged and written anew, since nothing else in the cache is trusted either.
func (c *Cache) checkLayout(path string) error {
	var l struct {
		Layout int `json:"layout"`
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	switch {
	case err == nil && l.Layout == layout:
		return nil
	case err == nil && l.Layout > 0:
		err := fault.New(fault.Unsupported, "%s says %.60q, and this version of windlass knows layout %d only", path, b, layout)
		return fault.Hintf(err, "remove %s, or name another directory", filepath.Dir(path))
	case !errors.Is(err, fs.ErrNotExist):
		c.log.WithField("file", path).Warnf("chunk cache does not say its layout (%.60q, %v); what is in it is verified before use", b, err)
	}
	l.Layout = layout
	b, _ = json.Marshal(l)
	return writeFile(path, append(b, '\n'))
}

func (c *Cache) warnOfOthers() {
	names, _ := filepath.Glob(filepath.Join(c.dir, "v[0-9]*"))
	for _, name := range names {
		if filepath.Base(name) != layoutDir {
			c.log.WithField("dir", name).Warn("chunk cache of another version of windlass is left alone; it takes room until it is removed")
		}
	}
}

// scan lists the images that are there, without looking into them.
func (c *Cache) scan() error {
	dirs, err := os.ReadDir(c.images)
	if err != nil {
		return err
	}
	boot := bootID()
	for _, d := range dirs {
		digest, err := parseName(d.Name())
		if err != nil {
			c.log.WithField("name", d.Name()).Warn("chunk cache holds something that is not an image; it is left alone")
			continue
		}
		e := &entry{cache: c, digest: digest, dir: filepath.Join(c.images, d.Name())}
		info, err := os.Stat(filepath.Join(e.dir, manifestFile))
		if err != nil {
			// The manifest is written last: its writer died before.
			if err := c.discard(e.dir); err != nil {
				return err
			}
			continue
		}
		e.used = info.ModTime()
		e.pinned = e.marked(pinMark)
		e.kept = e.marked(directMark) && e.markSays(directMark) == boot
		e.bytes = allocated(e.dir)
		c.entries[digest] = e
	}
	return nil
}

func imageName(d format.Digest) string { return d.Algorithm.String() + "-" + d.Sum.String() }

func parseName(name string) (format.Digest, error) {
	return format.ParseDigest(strings.Replace(name, "-", ":", 1))
}

// discard deletes a directory so that nobody ever sees half of it.
func (c *Cache) discard(dir string) error {
	gone, err := os.MkdirTemp(c.trash(), "")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(gone, filepath.Base(dir))); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// writeFile replaces a file whole, for whom kills this process. It does not sync, which would cost a cold start more than all the rest:
// after a power failure every file is known by its digest, or is a hint.
func writeFile(path string, b []byte) error {
	tmp := path + tempSuffix
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

// allocated is what the files in a directory take on the disk, in bytes.
func allocated(dir string) int64 {
	sum := int64(0)
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(dir, n.Name()), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Sprintf("unknown: %v", err)
	}
	return strings.TrimSpace(string(b))
}
