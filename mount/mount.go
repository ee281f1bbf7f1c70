// Package mount says what a mount driver is. A mount puts a file system at a place of its own; the drivers lie in the packages below.
//
// The package owns the contract and the list of drivers, never a mount. mounttest holds every driver to the contract.
package mount

import (
	"context"

	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// ID is the number of the mount in the chain.
type ID = models.ID

// Target is where a mount goes. Both directories lie in the daemon's own run directory, which is root's alone, so the paths can be
// trusted. (A path and not a descriptor: a descriptor of a mountpoint names the directory that the mount covers.)
type Target struct {
	Dir     string // the mountpoint; the chain has made it and removes it
	Scratch string // for what the driver needs beside it; the driver makes it when it needs it and removes it with all that is in it
	// IDs are those of the user namespace that the mount is the root of, nil when it is of none. A driver whose file system the kernel
	// cannot show with other ids once it is mounted makes it with these: what belongs to 0 below belongs to IDs.First in the mount. Other
	// drivers take no notice.
	IDs *idmap.Range `json:",omitempty"`
}

// Layer is one link below, in the order in which LayersOf lists them.
type Layer struct {
	Role     Role
	ID       ID
	Path     string // of the block device, or of the mountpoint
	ReadOnly bool
}

// Role says what a layer is for.
type Role string

// The roles.
const (
	RoleDevice Role = "device" // the block device of kind attach
	RoleBase   Role = "base"   // the mount that a bind's path is relative to
	RoleLower  Role = "lower"  // a lower layer of an overlay, uppermost first
	RoleUpper  Role = "upper"  // the mount that an overlay's upper lies on
)

// Active is a mount in place. It is kept in the record as JSON.
type Active struct {
	ID       ID     `json:"id"`
	Target   Target `json:"target"`
	MountID  uint64 `json:"mount_id"` // as mountinfo and statx know it
	Upperdir string `json:"upperdir,omitempty"`
	Workdir  string `json:"workdir,omitempty"`
	ReadOnly bool   `json:"read_only"`
}

// State is what the kernel says of a mount.
type State int

// The states.
const (
	Gone    State = iota // nothing of it is there
	Ready                // it is mounted at its place
	Partial              // something of it is there, such as a scratch directory; Unmount takes it away
)

// Driver mounts one kind of file system.
//
// The chain calls Mount and Unmount of one ID never at the same time; calls for different IDs come from many goroutines at once. Every
// method returns soon after ctx ends where the kernel lets it. Every change to the node is made within step.Do. Errors carry a kind
// (internal/fault): Invalid for what the caller got wrong, Busy when the mount is in use, Corrupt for content that is not what it
// should be, Unsupported when the kernel cannot, NotFound when what the spec names is not there.
type Driver interface {
	// Kind is the word for it on the wire.
	Kind() string
	// Validate checks the spec alone. It touches nothing; an error is of kind Invalid and names the field. It does not look at
	// nested objects: the chain asks their drivers.
	Validate(spec *models.Mount) error
	// Mount mounts at target.Dir. When it fails, or ctx ends, nothing is left mounted and target.Scratch is gone.
	Mount(ctx context.Context, id ID, spec *models.Mount, below []Layer, target Target) (Active, error)
	// Unmount takes it away, with what the driver keeps in Scratch; when it is gone already that is success. Nothing is unmounted
	// lazily, except with force what lies on a server that does not answer. In use: an error of kind Busy that says who holds it, and
	// the mount is as before. One that does not come back before ctx ends is of kind Timeout and its text begins with "stuck: ". It may
	// be called again after a failure. Only ID and Target of a need be set.
	Unmount(ctx context.Context, a Active, force bool) error
	// Probe asks the kernel what there is at target, where this daemon or one before it mounted or began to mount.
	Probe(ctx context.Context, id ID, spec *models.Mount, target Target) (Active, State, error)
}

// Lister is a Driver that keeps something of a mount elsewhere than at its Target. When the daemon starts, what is listed and has no record
// is taken away by Unmount.
type Lister interface {
	// List gives the mounts of which there is something, in no order.
	List(ctx context.Context) ([]ID, error)
}

// Observer is a Driver that can tell how a mount fares.
type Observer interface {
	// Refresh has what Observe tells brought up to date; ids are all mounts of the kind that are in place. It comes back soon, in a tenth
	// of a second, whatever hangs, and does nothing when all is known well enough.
	Refresh(ctx context.Context, ids []ID)
	// Observe puts what is known of the mount into m, which is its caller's: into the read-only fields of its part, of which it changes a
	// copy, and, when what it lies on does not answer, into Error, as "stuck: " and what does not answer since when. It never waits.
	Observe(id ID, m *models.Mount)
}

// Aborter is a Driver of file systems whose server may stop answering, so that those who read them wait.
type Aborter interface {
	// Abort makes what waits for a server that does not answer fail, so that those who wait can be taken down; Unmount follows. It finds
	// out itself whether the server answers, in 2 s at most; of one that does it changes nothing and reports false. It may be called
	// again for what has begun to wait since.
	Abort(ctx context.Context, a Active) (aborted bool, err error)
}

// Registry is the explicit list of drivers. It is made once and then only read.
type Registry struct{ drivers map[string]Driver }

// NewRegistry makes a registry; two drivers of one kind are a mistake in the program and panic.
func NewRegistry(drivers ...Driver) *Registry {
	r := &Registry{drivers: map[string]Driver{}}
	for _, d := range drivers {
		if r.drivers[d.Kind()] != nil {
			panic("mount: two drivers of kind " + d.Kind())
		}
		r.drivers[d.Kind()] = d
	}
	return r
}

// Driver gives the driver of a kind.
func (r *Registry) Driver(kind string) (Driver, bool) {
	d, ok := r.drivers[kind]
	return d, ok
}

// Kinds gives the kinds that there are drivers for, in no order.
func (r *Registry) Kinds() []string {
	kinds := make([]string, 0, len(r.drivers))
	for k := range r.drivers {
		kinds = append(kinds, k)
	}
	return kinds
}
