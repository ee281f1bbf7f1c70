package main

import (
	"context"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/keeper"
	chunkfs "github.com/windlass-hpc/windlass/chunkfs/serve"
)

// serveChunkfs runs the chunkfs server until nobody needs it. Its log, which lies in memory, is kept short.
func serveChunkfs(ctx context.Context, cfg chunkfs.Config, out io.Writer) error {
	log := logrus.New()
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	log.SetOutput(out)
	if kept := keeper.InheritedLog(); kept != nil {
		log.SetOutput(kept)
	}
	cfg.Log = log
	return chunkfs.Run(ctx, cfg)
}
