package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/local"
	"github.com/windlass-hpc/windlass/attach/loop"
	"github.com/windlass-hpc/windlass/chain"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/cli"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/bind"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/mount/device"
	"github.com/windlass-hpc/windlass/mount/overlay"
	"github.com/windlass-hpc/windlass/mount/tmpfs"
	"github.com/windlass-hpc/windlass/mount/uri"
	"github.com/windlass-hpc/windlass/swagger/server"
)

// version and commit are set when the program is linked; see the Makefile.
var version, commit string

func options() cli.Options {
	return cli.Options{Serve: serve, ServeChunkfs: serveChunkfs, Version: cmp.Or(version, "devel"), Commit: commit}
}

// attachDrivers is the list of attach drivers.
func attachDrivers(dir rundir.Dir) *attach.Registry {
	return attach.NewRegistry(local.New(), loop.New(dir.Instance()))
}

// mountDrivers is the list of mount drivers.
func mountDrivers(dir rundir.Dir, cas []*x509.Certificate, chunkfs chunk.Config) *mount.Registry {
	return mount.NewRegistry(device.New(), bind.New(), overlay.New(), tmpfs.New(), chunk.New(chunkfs),
		uri.New(uri.Config{Instance: dir.Instance(), ExtraCAs: cas, UserAgent: "windlass/" + cmp.Or(version, "devel")}))
}

// chunkfsConfig says how the chunkfs server is started: as this program once more, kept by the shim.
func chunkfsConfig(cfg config.Config, dir rundir.Dir, shim string) (chunk.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return chunk.Config{}, fmt.Errorf("find this program, which the chunkfs server is too: %w", err)
	}
	return chunk.Config{Instance: dir.Instance(), CacheDir: cfg.ChunkfsCache, Starter: control.NewStarter(control.StartConfig{
		RunDir: string(dir), Shim: shim, Server: self, CacheDir: cfg.ChunkfsCache, CacheSize: int64(cfg.ChunkfsCacheSize),
	})}, nil
}

// openChain makes the chain that the configuration describes and brings it and the node together.
func openChain(ctx context.Context, cfg config.Config, log *logrus.Logger, onStep chain.StepFunc) (*chain.Chain, error) {
	dir := rundir.Dir(cfg.RunDir)
	cas, err := authorities(cfg.URICA)
	if err != nil {
		return nil, err
	}
	shim, err := shimPath(cfg.Shim)
	if err != nil {
		return nil, err
	}
	containers, err := linux.New(linux.Config{RunDir: dir, Shim: shim, CgroupParent: cfg.CgroupParent, LogSize: int64(cfg.LogSize)})
	if err != nil {
		return nil, err
	}
	chunkfs, err := chunkfsConfig(cfg, dir, shim)
	if err != nil {
		return nil, err
	}
	return chain.Open(ctx, chain.Config{
		Dir: dir, Attach: attachDrivers(dir), Mount: mountDrivers(dir, cas, chunkfs), Runtime: containers, Log: log, OnStep: onStep,
		CreateTimeout: cfg.CreateTimeout, StepTimeout: cfg.StepTimeout, UndoTimeout: cfg.UndoTimeout,
		StopTimeout: cfg.StopTimeout, SystemdStopTimeout: cfg.SystemdStopTimeout, Info: info(containers),
	})
}

func newServer(cfg config.Config, c *chain.Chain, metrics *server.Metrics, log *logrus.Logger) (*server.Server, error) {
	return server.New(server.Config{
		Listen: listenConfig(cfg), Metrics: metrics, MaxBody: int64(cfg.MaxBody), MaxHeader: int(cfg.MaxHeader),
		HeaderTimeout: cfg.HeaderTimeout, BodyTimeout: cfg.BodyTimeout, IdleTimeout: cfg.IdleTimeout,
	}, c, log)
}

// shimPath finds the shim: as configured, beside this program, in PATH.
func shimPath(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "windlass-shim"); executable(beside) {
			return beside, nil
		}
	}
	found, err := exec.LookPath("windlass-shim")
	if err != nil {
		return "", fault.Hintf(fault.New(fault.Unsupported, "windlass-shim is neither beside windlass nor in PATH"),
			"install it there, or say where it is with --shim")
	}
	return found, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// authorities reads a PEM file of certificates; none when path is empty.
func authorities(path string) ([]*x509.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the authorities for uri mounts: %w", err)
	}
	var cas []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the authorities for uri mounts: %s: %w", path, err)
		}
		cas = append(cas, ca)
	}
	if len(cas) == 0 {
		return nil, fault.New(fault.Invalid, "%s holds no certificate", path)
	}
	return cas, nil
}

var goVersion = runtime.Version()
