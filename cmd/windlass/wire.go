package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/chain"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/cli"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/swagger/server"
)

// version and commit are set when the program is linked; see the Makefile.
var version, commit string

func options() cli.Options {
	return cli.Options{Serve: serve, ServeChunkfs: serveChunkfs, Version: cmp.Or(version, "devel"), Commit: commit}
}

// chunkfsConfig says how the chunkfs server is started: as this program once more, kept by the shim.
func chunkfsConfig(cfg config.Config, dir rundir.Dir, shim string) (chunk.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return chunk.Config{}, fmt.Errorf("find this program, which the chunkfs server is too: %w", err)
	}
	return chunk.Config{Instance: dir.Instance(), CacheDir: cfg.ChunkfsCache, Starter: control.NewStarter(control.StartConfig{
		RunDir: string(dir), Shim: shim, Server: self, CacheDir: cfg.ChunkfsCache, CacheSize: int64(cfg.ChunkfsCacheSize),
		Spared: os.Getenv(control.SparedEnv) != "",
	})}, nil
}

// node is the chain with what belongs to it.
type node struct {
	*chain.Chain
	background []io.Closer // drivers
}

// Close closes the chain, and then the drivers, which nobody calls any more.
func (n *node) Close() {
	if n.Chain != nil {
		n.Chain.Close()
	}
	for _, c := range n.background {
		_ = c.Close() // whatever it leaves, the next daemon finds
	}
}

// openChain makes the chain that the configuration describes and brings it and the node together.
func openChain(ctx context.Context, cfg config.Config, log *logrus.Logger, onStep chain.StepFunc) (*node, error) {
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
	beside := helper.New(shim)
	d := drivers{cfg: cfg, dir: dir, helper: beside, credentials: credential.Store{Dir: cfg.CredentialsDir, Helper: beside}, log: log}
	attaches, mounts := d.attach(), d.mount(cas, chunkfs)
	n := &node{background: append(closers(attaches), closers(mounts)...)}
	n.Chain, err = chain.Open(ctx, chain.Config{
		Dir: dir, Attach: attach.NewRegistry(attaches...), Mount: mount.NewRegistry(mounts...), Runtime: containers, Log: log, OnStep: onStep,
		CreateTimeout: cfg.CreateTimeout, StepTimeout: cfg.StepTimeout, UndoTimeout: cfg.UndoTimeout,
		StopTimeout: cfg.StopTimeout, SystemdStopTimeout: cfg.SystemdStopTimeout, Info: info(containers), LeftBehind: d.leftBehind, Process: d.helper,
	})
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
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
