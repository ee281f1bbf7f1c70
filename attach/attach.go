// Package attach says what an attach driver is. An attachment provides a block device; the drivers lie in the packages below.
//
// The package owns the contract and the list of drivers, never a device. attachtest holds every driver to the contract.
package attach

import (
	"context"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// ID is the number of the attachment in the chain.
type ID = models.ID

// Base is what an attachment lies on, when it lies on something.
type Base struct {
	// Dir is the directory that the paths of the spec are relative to: "/" or the mountpoint of the mount below. With Confined set
	// no path may leave it.
	Dir      string
	Confined bool
	// ReadOnly says that what will use the device only reads.
	ReadOnly bool
}

// Device is a block device that an attachment provides. It is kept in the record as JSON.
type Device struct {
	ID       ID     `json:"id"`
	Path     string `json:"path"`             // such as /dev/loop3p1; what is mounted
	Parent   string `json:"parent,omitempty"` // the whole device, where Path is a partition that came with it
	DevNum   uint64 `json:"devnum"`           // st_rdev of Path when it was attached
	ReadOnly bool   `json:"read_only"`
	// Number is the device's number in its own subsystem, such as the rbd device id.
	Number int64 `json:"number,omitempty"`
}

// State is what the kernel says of an attachment.
type State int

// The states.
const (
	Gone    State = iota // nothing of it is there
	Ready                // the device is there and is the one that was asked for
	Partial              // something of it is there; Detach takes it away
)

// Driver attaches one kind of device.
//
// The chain calls Attach and Detach of one ID never at the same time; calls for different IDs come from many goroutines at once. Every
// method returns soon after ctx ends where the kernel lets it. Every change to the node is made within step.Do. Errors carry a kind
// (internal/fault): Invalid for what the caller got wrong, Busy when the device is in use, Unsupported when the kernel cannot,
// NotFound when what the spec names is not there.
type Driver interface {
	// Kind is the word for it on the wire.
	Kind() string
	// Validate checks the spec alone. It touches nothing; an error is of kind Invalid and names the field.
	Validate(spec *models.Attach) error
	// Attach makes the device. When it fails, or ctx ends, nothing is left of it.
	Attach(ctx context.Context, id ID, spec *models.Attach, base Base) (Device, error)
	// Detach takes the device away; when it is gone already that is success. In use: an error of kind Busy that says who holds it,
	// also with force, which only skips waiting where a driver waits. It may be called again after a failure. One that does not come
	// back before ctx ends, because the storage does not answer, is of kind Timeout and its text begins with "stuck: ".
	Detach(ctx context.Context, d Device, force bool) error
	// Probe asks the kernel what there is of id, which this daemon or one before it attached or began to attach. The device is
	// filled in as far as it is there, so that Detach can be given it.
	Probe(ctx context.Context, id ID, spec *models.Attach) (Device, State, error)
	// List gives every device in the kernel that carries our name, of this instance, whether a record knows it or not.
	List(ctx context.Context) ([]Device, error)
}

// Observer is a Driver that can tell how a device fares.
type Observer interface {
	// Refresh has what Observe tells brought up to date; ids are all attachments of the kind that are in place. It comes back soon, in a
	// tenth of a second, whatever hangs, and does nothing when all is known well enough.
	Refresh(ctx context.Context, ids []ID)
	// Observe puts what is known of the attachment into a, which is its caller's: into the read-only fields of its part, of which it
	// changes a copy, and, when the storage does not answer, into Error, as "stuck: " and what does not answer since when. It never waits.
	Observe(id ID, a *models.Attach)
}

// Aborter is a Driver of storage that may stop answering, so that those who read it wait and cannot be killed.
type Aborter interface {
	// Abort makes what waits for a device that does not answer, and all that is asked of it later, fail, so that its users can be taken
	// down; Detach follows when they have gone. It finds out itself whether the device answers, in 2 s at most; of one that does it
	// changes nothing and reports false.
	Abort(ctx context.Context, d Device) (aborted bool, err error)
}

// Registry is the explicit list of drivers. It is made once and then only read.
type Registry struct{ drivers map[string]Driver }

// NewRegistry makes a registry; two drivers of one kind are a mistake in the program and panic.
func NewRegistry(drivers ...Driver) *Registry {
	r := &Registry{drivers: map[string]Driver{}}
	for _, d := range drivers {
		if r.drivers[d.Kind()] != nil {
			panic("attach: two drivers of kind " + d.Kind())
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
