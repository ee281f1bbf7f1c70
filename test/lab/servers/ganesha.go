package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"text/template"

	"golang.org/x/sys/unix"
)

// GaneshaConfig says what NFS server to start. It listens on all addresses, IPv4 and IPv6, at the port of NFS.
type GaneshaConfig struct {
	Dir string // it is made
	// V3 also serves NFS 3, which needs rpcbind, and that needs a /run of its own. There are no locks over the network: mount with nolock.
	V3 bool
	// Addr is an address of the machine, to ask whether the server is ready.
	Addr netip.Addr
}

// Export is a directory that clients can mount.
type Export struct {
	Dir      string
	Name     string // what NFS 4 clients mount, such as /images; NFS 3 clients do the same with Dir
	ReadOnly bool
	// RootSquash makes nobody of root.
	RootSquash bool
}

// Ganesha is a running NFS server, for 4.0, 4.1 and 4.2, and perhaps 3. After it was ended and started again clients go on at once: it keeps no
// grace period. Its methods may be called at the same time.
type Ganesha struct {
	cfg     GaneshaConfig
	rpcbind *process // nil without NFS 3
	nfsd    *process

	mu      sync.Mutex // of exports, and held while the server is started
	exports []Export
}

// StartGanesha starts an NFS server and answers when it serves.
func StartGanesha(ctx context.Context, cfg GaneshaConfig, exports ...Export) (_ *Ganesha, err error) {
	if err := checkExports(exports); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "recovery"), 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(cfg.Dir, "ganesha.conf")
	g := &Ganesha{cfg: cfg, exports: slices.Clone(exports)}
	g.nfsd = newProcess(cfg.Dir, "ganesha", "ganesha.nfsd", "-F", "-f", conf, "-L", "STDERR", "-p", filepath.Join(cfg.Dir, "ganesha.pid"))
	defer func() {
		if err != nil {
			err = fmt.Errorf("start nfs-ganesha in %s: %w", cfg.Dir, errors.Join(err, g.Stop()))
		}
	}()
	if cfg.V3 {
		g.rpcbind = newProcess(cfg.Dir, "rpcbind", "rpcbind", "-f", "-w")
		if err := g.rpcbind.start(); err != nil {
			return nil, err
		}
		if err := g.rpcbind.until(ctx, "answers", g.answers(111, 100000, 2)); err != nil {
			return nil, err
		}
	}
	if err := g.Start(ctx); err != nil {
		return nil, err
	}
	return g, nil
}

// Start starts the server when it has ended, with the exports that there are now.
func (g *Ganesha) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.start(ctx)
}

func (g *Ganesha) start(ctx context.Context) error {
	if err := g.writeConf(); err != nil {
		return err
	}
	if err := g.nfsd.start(); err != nil {
		return err
	}
	if err := g.nfsd.until(ctx, "serves NFS 4", g.answers(2049, 100003, 4)); err != nil {
		return err
	}
	if !g.cfg.V3 {
		return nil
	}
	if err := g.nfsd.until(ctx, "serves NFS 3", g.answers(2049, 100003, 3)); err != nil {
		return err
	}
	return g.nfsd.until(ctx, "serves mounts of NFS 3", g.answers(mountPort, 100005, 3))
}

// answers asks a program by its procedure that does nothing.
func (g *Ganesha) answers(port uint16, program, version uint32) func(context.Context) error {
	at := netip.AddrPortFrom(g.cfg.Addr, port)
	return func(ctx context.Context) error { return callNull(ctx, at, program, version) }
}

// Restart ends the server and starts it with other exports.
func (g *Ganesha) Restart(ctx context.Context, exports ...Export) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := checkExports(exports); err != nil {
		return err
	}
	if err := g.nfsd.end(ctx, unix.SIGTERM); err != nil {
		return err
	}
	g.exports = slices.Clone(exports)
	return g.start(ctx)
}

// checkExports: of a directory that is not there the server would say so in its log alone.
func checkExports(exports []Export) error {
	for _, e := range exports {
		if st, err := os.Stat(e.Dir); err != nil {
			return fmt.Errorf("export %s: %w", e.Name, err)
		} else if !st.IsDir() {
			return fmt.Errorf("export %s: %s is no directory", e.Name, e.Dir)
		}
	}
	return nil
}

// Exports gives what is exported.
func (g *Ganesha) Exports() []Export {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.exports)
}

// Signal sends a signal to the server and waits until it has worked: SIGSTOP, SIGCONT, SIGTERM or SIGKILL.
func (g *Ganesha) Signal(ctx context.Context, sig syscall.Signal) error {
	return g.nfsd.signal(ctx, sig)
}

// Stop ends the server. It may be called again.
func (g *Ganesha) Stop() error {
	err := g.nfsd.end(context.Background(), unix.SIGKILL)
	if g.rpcbind != nil {
		err = errors.Join(err, g.rpcbind.end(context.Background(), unix.SIGKILL))
	}
	return err
}

// Address is where the server is found, host and port.
func (g *Ganesha) Address() string { return net.JoinHostPort(g.cfg.Addr.String(), "2049") }

func (g *Ganesha) writeConf() error {
	t, err := template.New("ganesha.conf").Funcs(template.FuncMap{"number": func(i int) int { return i + 1 }}).Parse(ganeshaText)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(g.cfg.Dir, "ganesha.conf"))
	if err != nil {
		return err
	}
	defer f.Close()
	protocols := "4"
	if g.cfg.V3 {
		protocols = "3, 4"
	}
	return t.Execute(f, struct {
		Dir, Protocols string
		MountPort      int
		Exports        []Export
	}{g.cfg.Dir, protocols, mountPort, g.exports})
}

// mountPort is where the mount protocol of NFS 3 is served, for clients that are told and do not ask rpcbind.
const mountPort = 20048

const ganeshaText = `NFS_CORE_PARAM {
	NFS_Port = 2049;
	MNT_Port = {{.MountPort}};
	Protocols = {{.Protocols}};
	Enable_NLM = false;
	Enable_RQUOTA = false;
	NSM_Use_Caller_Name = true;
}
NFSV4 {
	Graceless = true;
	Minor_Versions = 0, 1, 2;
	RecoveryBackend = fs;
	RecoveryRoot = {{.Dir}}/recovery;
	Only_Numeric_Owners = true;
}
{{range $i, $e := .Exports}}EXPORT {
	Export_Id = {{number $i}};
	Path = {{$e.Dir}};
	Pseudo = {{$e.Name}};
	Protocols = {{$.Protocols}};
	Transports = TCP;
	SecType = sys;
	Access_Type = {{if $e.ReadOnly}}RO{{else}}RW{{end}};
	Squash = {{if $e.RootSquash}}Root_Squash{{else}}No_Root_Squash{{end}};
	FSAL { Name = VFS; }
}
{{end}}LOG { Default_Log_Level = EVENT; }
`
