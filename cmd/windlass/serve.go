package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/go-openapi/strfmt"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chain"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/initialroot"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server"
	"github.com/windlass-hpc/windlass/swagger/server/listen"
	"github.com/windlass-hpc/windlass/swagger/server/systemd"
)

// serve runs the daemon until ctx ends. Containers, mounts and attachments stay as they are when it does.
func serve(ctx context.Context, cfg config.Config, out io.Writer) error {
	log, err := newLog(cfg, out)
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	log.WithFields(cfg.Fields()).WithField("version", options().Version).Info("starting")
	switch initial, err := initialroot.Prepare(ctx); {
	case err != nil:
		return err
	case initial:
		log.Info("this node's init has left it on the root of its initramfs; the daemon has one of its own above, which leads to the same files: /..")
	}
	metrics := server.NewMetrics()
	c, err := openChain(ctx, cfg, log, metrics.ObserveStep)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := newServer(cfg, c.Chain, metrics, log)
	if err != nil {
		return err
	}
	if err := s.Listen(ctx); err != nil {
		return err
	}
	return run(ctx, cfg, s, c.Chain, log)
}

// run serves until ctx ends or a listener fails, then lets the requests that are under way end.
func run(ctx context.Context, cfg config.Config, s *server.Server, c *chain.Chain, log *logrus.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve() }()
	if err := systemd.Ready("serving"); err != nil {
		log.WithError(err).Warn("the service manager could not be told")
	}
	alive, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if err := systemd.Watchdog(alive, func(context.Context) error {
			c.Counts() // takes the lock of the objects: when that hangs, so does the daemon
			return nil
		}); err != nil {
			log.WithError(err).Warn("the watchdog could not be told")
		}
	}()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping; containers go on")
	}
	c.Stopping()
	_ = systemd.Stopping() // who asked for the stop knows
	end, done := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
	defer done()
	return errors.Join(err, s.Shutdown(end))
}

func listenConfig(cfg config.Config) listen.Config {
	return listen.Config{
		Schemes: cfg.Schemes, SocketPath: cfg.SocketPath, Host: cfg.Host, Port: &cfg.Port, TLSHost: cfg.TLSHost, TLSPort: &cfg.TLSPort,
		TLSCertificate: cfg.TLSCertificate, TLSKey: cfg.TLSKey, TLSCA: cfg.TLSCA, InsecureHTTP: cfg.InsecureHTTP,
	}
}

func newLog(cfg config.Config, out io.Writer) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(out)
	level, err := logrus.ParseLevel(cfg.LogLevel)
	if err != nil {
		return nil, err
	}
	log.SetLevel(level)
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
	return log, nil
}

// info is what the daemon says of itself.
func info(containers *linux.Runtime) models.Info {
	i := models.Info{Version: options().Version, Commit: commit, Go: goVersion, Started: strfmt.DateTime(time.Now().UTC()),
		CgroupMode: containers.CgroupMode()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		i.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return i
}
