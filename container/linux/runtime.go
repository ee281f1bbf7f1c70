// Package linux runs containers on Linux: it checks what is asked, makes cgroups and directories, starts a shim for each container and
// talks to it.
//
// The package keeps nothing in memory but starts that are under way. What there is of a container is asked from its shim, through the socket in the container's
// directory; where nobody answers, from the last words that the shim left; where there are none, the shim was killed, and what it left running
// is killed too. So a daemon that starts after a crash knows as much as the one before. It owns the directories and cgroups of
// containers, never their root file systems.
package linux

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/rundir"
)

// DefaultLogSize is how large a log grows before it is rotated, in bytes. One older part is kept.
const DefaultLogSize = 10 << 20

// DefaultIDBase is where the ids of the first user namespace lie on the node; each container has 65536 of its own after it.
const DefaultIDBase = 0x10000000

// idSlots is how many containers get ids that differ from each other's.
const idSlots = 0x6000

// Config is what a Runtime needs to know.
type Config struct {
	RunDir       rundir.Dir
	Shim         string // path of the program windlass-shim
	CgroupParent string // where our cgroups lie in each hierarchy; empty is its root
	LogSize      int64  // 0: DefaultLogSize
	IDBase       uint32 // 0: DefaultIDBase
}

// Runtime implements container.Runtime.
type Runtime struct {
	cfg  Config
	host cgroup.Host
	top  cgroup.Group // holds the groups of all our containers
	// starting is held while the cgroup of the shims is made and entered, or removed.
	starting sync.Mutex
	locks    keyed
	early    early
}

var (
	_ container.Runtime    = (*Runtime)(nil)
	_ container.Preparer   = (*Runtime)(nil)
	_ container.UserMapper = (*Runtime)(nil)
)

// New makes a Runtime and checks that this node can run containers.
func New(cfg Config) (*Runtime, error) {
	if cfg.LogSize == 0 {
		cfg.LogSize = DefaultLogSize
	}
	if cfg.IDBase == 0 {
		cfg.IDBase = DefaultIDBase
	}
	if os.Geteuid() != 0 {
		return nil, fault.New(fault.Unsupported, "containers need root")
	}
	if err := unix.Access(cfg.Shim, unix.X_OK); err != nil {
		return nil, fault.Hintf(fault.New(fault.Unsupported, "the program windlass-shim cannot be run at %q: %w", cfg.Shim, err),
			"install it beside windlass, or configure where it is")
	}
	host, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(host.Unified, cfg.CgroupParent)); err != nil {
		return nil, fault.New(fault.Invalid, "the configured cgroup parent: %w", err)
	}
	r := &Runtime{cfg: cfg, host: host, top: host.Instance(cfg.CgroupParent, cfg.RunDir.Instance())}
	return r, r.checkKernel()
}

// checkKernel asks for the youngest things that are needed: mount_setattr and cgroup.kill, of Linux 5.12 and 5.14.
func (r *Runtime) checkKernel() error {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	if err == unix.ENOSYS {
		return fault.New(fault.Unsupported, "this kernel is too old for containers: Linux 5.14 or newer is needed")
	}
	return nil
}

// CgroupMode is "unified" where all that limits need is version 2, and "hybrid" where it is version 1 still.
func (r *Runtime) CgroupMode() string {
	if len(r.host.Legacy) > 0 {
		return "hybrid"
	}
	return "unified"
}

func (r *Runtime) dir(id container.ID) string { return r.cfg.RunDir.Container(int64(id)) }

func (r *Runtime) group(id container.ID) cgroup.Group {
	return r.top.Child(strconv.FormatInt(int64(id), 10))
}

// LogPath is where the log is.
func (r *Runtime) LogPath(id container.ID) string { return filepath.Join(r.dir(id), proto.LogName) }

// List gives the IDs of everything that there is a directory or a cgroup of.
func (r *Runtime) List(ctx context.Context) ([]container.ID, error) {
	seen := map[container.ID]bool{}
	var ids []container.ID
	dirs := []string{r.cfg.RunDir.Containers(), r.top.Dir}
	for _, d := range r.top.Legacy {
		dirs = append(dirs, d)
	}
	for _, d := range dirs {
		entries, err := os.ReadDir(d)
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("list the containers: %w", err)
		}
		for _, e := range entries {
			n, ok := rundir.ID(e.Name())
			if id := container.ID(n); ok && e.IsDir() && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids, ctx.Err()
}

// keyed is a lock a container.
type keyed struct {
	mu    sync.Mutex
	locks map[container.ID]*keyedLock
}

type keyedLock struct {
	sync.Mutex
	users int
}

// lock waits for the lock of id and gives what unlocks it.
func (k *keyed) lock(id container.ID) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[container.ID]*keyedLock{}
	}
	l := k.locks[id]
	if l == nil {
		l = &keyedLock{}
		k.locks[id] = l
	}
	l.users++
	k.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, id)
		}
	}
}
