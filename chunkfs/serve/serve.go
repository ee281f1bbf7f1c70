// Package serve is the chunkfs server: one process for all chunkfs mounts of a node, a child of the keeper.
//
// It serves FUSE, answers the daemon on its control socket, and after a crash takes up what its predecessor left. It owns the mounts that
// it makes (the file system of device files, and those of mode fuse) and the records of what it was asked; the cache owns the images.
package serve

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
)

// Config is what a server is told.
type Config struct {
	RunDir   string // the daemon's run directory; the server's own is chunkfs below it
	CacheDir string
	Quota    int64 // bytes of the cache; 0 is what the cache thinks right
	Log      *logrus.Logger
}

// Run serves until no mount is left and no daemon holds the server, or until ctx ends and no mount is left.
func Run(_ context.Context, cfg Config) error {
	if cfg.RunDir == "" || cfg.CacheDir == "" {
		return errors.New("the chunkfs server wants a run directory and a cache directory")
	}
	return errors.New("the chunkfs server is not whole in this build")
}
