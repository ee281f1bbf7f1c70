// Package rundir says where everything of a running daemon lies. The directory is root's alone (0700), so the paths in it can be
// trusted, and it must die with the boot, so it lies under /run.
//
//	/run/windlass/lock                   held by the daemon that runs
//	/run/windlass/records/ID.json        what was promised for an object
//	/run/windlass/sequence               the last ID given, the last event
//	/run/windlass/mounts/ID              where a mount is mounted
//	/run/windlass/scratch/ID/            what a mount's driver needs beside it: an overlay's upper, a download
//	/run/windlass/containers/ID/         a container's shim: socket, configuration, last words, log
//	/run/windlass/chunkfs/               the chunkfs server: see chunkfs/control; made when it is first wanted
package rundir

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Default is where the daemon keeps its live state when nobody says otherwise.
const Default = "/run/windlass"

// Dir is the root of the layout, an absolute path.
type Dir string

// Make creates the directories that are always there.
func (d Dir) Make() error {
	for _, p := range []string{string(d), d.Records(), d.Mounts(), d.Scratches(), d.Containers()} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return fmt.Errorf("make the run directory: %w", err)
		}
		if err := os.Chmod(p, 0o700); err != nil {
			return fmt.Errorf("make the run directory: %w", err)
		}
	}
	return nil
}

// Lock is the file that the running daemon holds locked.
func (d Dir) Lock() string { return filepath.Join(string(d), "lock") }

// Records holds a file an object.
func (d Dir) Records() string { return filepath.Join(string(d), "records") }

// Record is the file of one object.
func (d Dir) Record(id int64) string { return filepath.Join(d.Records(), name(id)+".json") }

// Sequence is the file of the last numbers given.
func (d Dir) Sequence() string { return filepath.Join(string(d), "sequence") }

// Mounts holds a mountpoint a mount.
func (d Dir) Mounts() string { return filepath.Join(string(d), "mounts") }

// Mount is where the mount is mounted.
func (d Dir) Mount(id int64) string { return filepath.Join(d.Mounts(), name(id)) }

// Scratches holds a directory a mount.
func (d Dir) Scratches() string { return filepath.Join(string(d), "scratch") }

// Scratch is the directory of a mount's driver.
func (d Dir) Scratch(id int64) string { return filepath.Join(d.Scratches(), name(id)) }

// Containers holds a directory a container.
func (d Dir) Containers() string { return filepath.Join(string(d), "containers") }

// Container is the directory of a container's shim.
func (d Dir) Container(id int64) string { return filepath.Join(d.Containers(), name(id)) }

// Instance names this daemon among others of the same node, in loop devices and cgroups: "windlass" for the default directory, else
// "windlass-" and six digits made of the path. At most 15 bytes, so that it fits everywhere.
func (d Dir) Instance() string {
	p := filepath.Clean(string(d))
	if p == Default {
		return "windlass"
	}
	sum := sha256.Sum256([]byte(p))
	return "windlass-" + hex.EncodeToString(sum[:3])
}

// ID reads the ID from the name of a mountpoint, scratch or container directory; false when it is no such name.
func ID(base string) (int64, bool) {
	n, err := strconv.ParseInt(base, 10, 64)
	if err != nil || n <= 0 || name(n) != base {
		return 0, false
	}
	return n, true
}

func name(id int64) string { return strconv.FormatInt(id, 10) }
