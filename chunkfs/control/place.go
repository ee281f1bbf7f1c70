package control

import "path/filepath"

const logName = "server.log"

// Place is where the chunkfs server of a daemon lies: the directory chunkfs of the daemon's run directory, root's alone.
//
//	/run/windlass/chunkfs/control.sock    answers the daemon
//	/run/windlass/chunkfs/start.lock      held while somebody starts the server
//	/run/windlass/chunkfs/keeper.lock     held by the keeper that runs
//	/run/windlass/chunkfs/server.log      what keeper and server write
//	/run/windlass/chunkfs/data/           the FUSE file system with the device files of mode lazy
//	/run/windlass/chunkfs/mounts/ID.json  what was opened: written by the server before it begins, removed by it last
type Place string

// PlaceIn gives the place in a run directory, an absolute path.
func PlaceIn(runDir string) Place { return Place(filepath.Join(runDir, "chunkfs")) }

func (p Place) join(name string) string { return filepath.Join(string(p), name) }

// Socket is where the server answers.
func (p Place) Socket() string { return p.join("control.sock") }

// StartLock is locked by who starts the server, so that only one does.
func (p Place) StartLock() string { return p.join("start.lock") }

// KeeperLock is locked by the keeper for as long as it lives.
func (p Place) KeeperLock() string { return p.join("keeper.lock") }

// Log is what keeper and server write to.
func (p Place) Log() string { return p.join(logName) }

// Data is the mountpoint of the FUSE file system that holds the device files.
func (p Place) Data() string { return p.join("data") }

// Mounts holds a file for each mount that the server has open.
func (p Place) Mounts() string { return p.join("mounts") }

// Mount is that file.
func (p Place) Mount(id string) string { return filepath.Join(p.Mounts(), id+".json") }
