package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/keeper"
)

// keeperProcess is a keeper that we started; nil stands for one that somebody else did.
type keeperProcess struct {
	p     *os.Process
	ended chan struct{}
}

// spawn starts the keeper in a session of its own, with nothing of ours open but its log.
func (s *Starter) spawn() (*keeperProcess, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(s.place.Log(), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, err := os.StartProcess(s.cfg.Shim, s.args(), &os.ProcAttr{
		Dir: "/", Env: environment(os.Environ()), Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	k := &keeperProcess{p, make(chan struct{})}
	go func() {
		defer close(k.ended)
		_, _ = p.Wait()
	}()
	return k, nil
}

func (s *Starter) args() []string {
	name := "windlass-shim"
	if s.cfg.Spared {
		name = keeper.Mark + name
	}
	return []string{
		name, "keeper", "--lock", s.place.KeeperLock(), "--log", s.place.Log(), "--",
		s.cfg.Server, "chunkfs", "serve", "--run-dir", s.cfg.RunDir, "--cache-dir", s.cfg.CacheDir,
		"--cache-size", strconv.FormatInt(s.cfg.CacheSize, 10),
	}
}

// environment is what the server may need of ours: how to find web servers and authorities, and how much of the machine it may use.
func environment(all []string) []string {
	pass := []string{"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GOMAXPROCS", "GOMEMLIMIT", "GODEBUG", "GOCOVERDIR"}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(pass, strings.ToUpper(name))
	})
}

func (k *keeperProcess) gone() <-chan struct{} {
	if k == nil {
		return nil
	}
	return k.ended
}

// end ends a keeper whose server did not come up: it would try for ever.
func (k *keeperProcess) end() {
	if k == nil {
		return
	}
	_ = k.p.Signal(unix.SIGTERM)
	select {
	case <-k.ended:
	case <-time.After(2 * time.Second):
		_ = k.p.Kill()
	}
}

// lockFile locks the file at path for ourselves, within ctx. Closing it unlocks.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// keeperGone reports whether neither a keeper nor a server of one is alive: both hold the lock.
func (s *Starter) keeperGone() bool {
	f, err := os.Open(s.place.KeeperLock())
	if err != nil {
		return true
	}
	defer f.Close()
	return !errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func (s *Starter) logSize() int64 {
	info, err := os.Stat(s.place.Log())
	if err != nil {
		return 0
	}
	return info.Size()
}

// maxReason bounds in bytes what an error message takes of the log.
const maxReason = 500

// logSince gives the last line that a server has written to the log since it had size bytes, or a keeper when no server has, for an error
// message.
func (s *Starter) logSince(size int64) string {
	b, err := os.ReadFile(s.place.Log())
	if err != nil || int64(len(b)) <= size {
		return ""
	}
	last := ""
	for line := range strings.Lines(string(b[size:])) {
		line = strings.TrimSpace(line)
		of := strings.HasPrefix(line, "windlass-shim: ") || strings.Contains(line, " keeper: ")
		if line != "" && (last == "" || !of) {
			last = line
		}
	}
	return fmt.Sprintf(": %.*s", maxReason, strings.TrimPrefix(last, "windlass: "))
}
