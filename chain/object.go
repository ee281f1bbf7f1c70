package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// ID numbers the objects of a chain; one counter serves all kinds.
type ID = models.ID

// Kind is the kind of an object.
type Kind string

// The kinds, in the order in which a chain is raised.
const (
	KindAttach    Kind = "attach"
	KindMount     Kind = "mount"
	KindContainer Kind = "container"
)

// Phase is where an object is between being asked for and being gone. Wire name: `state` of attach and mount.
type Phase string

// The phases. On disk only Planned, Ready and Undoing occur: a crash in Doing is undone like one in Planned.
const (
	Planned Phase = "planned" // its record is written, nothing is done
	Doing   Phase = "doing"   // a driver is at it
	Ready   Phase = "ready"   // in place
	Undoing Phase = "undoing" // being taken down, or to be tried again
	Lost    Phase = "lost"    // the kernel object has gone without us
	Gone    Phase = "gone"    // taken down; only in answers and events
)

// below is one link that an object lies on.
type below struct {
	Role mount.Role `json:"role"`
	ID   ID         `json:"id"`
}

// object is one link of a chain. All fields but id, kind and the locks are guarded by Chain.mu.
type object struct {
	id     ID
	kind   Kind
	client bool        // a request of its own created it, and has not deleted it
	over   map[ID]Kind // the objects that lie on this one: its holders beside the client
	below  []below
	phase  Phase
	err    string // what went wrong last
	hint   string
	made   time.Time

	// One of these, without nested definitions: `below` has taken their place.
	attach    *models.Attach
	mount     *models.Mount
	container *models.Container

	device attach.Device
	active mount.Active
	ctr    containerState

	steps   *timeline
	changed chan struct{} // closed and made anew at every change

	// readOnly says that what will use an attachment only reads. Set by the plan.
	readOnly bool
	// ids are those that a mount is to have as the root of a container with a user namespace. Set when the plan gets its numbers.
	ids *idmap.Range
	// stuck counts the driver calls of this object that have not come back although their deadline passed.
	stuck int
	// asking says that it is being probed.
	asking bool
	// claimed says that somebody is taking it down.
	claimed bool
	// forced says that it is taken down by force, from now on. Kept in the record.
	forced bool
	// pressed says that what held it was deleted by force: what does not answer may be aborted for it, but as long as all answers it
	// is taken down in order. Kept in the record.
	pressed bool
	// giveUp ends the driver call that takes it down, where that was begun without force.
	giveUp context.CancelFunc
	// pressing ends the pressing of its deletion by force; nil when there is none.
	pressing context.CancelFunc
	// aborted says that it or something for it was aborted.
	aborted bool
	// aborting is the call of its driver's Abort that is under way.
	aborting *aborting
	// notBefore is when it is tried again at the earliest to take it down, after tries that ended because something did not answer; -1
	// tries have it tried again at once.
	notBefore time.Time
	tries     int
	// unsure says that, since the daemon started, nobody could tell whether it is in place.
	unsure bool
	// replaced says that another device has the name of the one that was attached: raising it again would take that one.
	replaced bool
	// run counts how often a container was started: what belongs to an earlier run must not touch a later one.
	run int
	// touched says that a driver may have begun to make it.
	touched bool

	writing chan struct{} // holds a token while the record is written
	op      chan struct{} // holds a token while an operation works on the container
}

// newObject makes an object that nothing knows yet.
func newObject(kind Kind, onStep StepFunc) *object {
	return &object{
		kind: kind, phase: Planned, over: map[ID]Kind{}, made: time.Now(),
		steps: &timeline{onStep: onStep}, changed: make(chan struct{}), op: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
}

// holders names who holds the object, the client first, then by id.
func (o *object) holders() []string {
	var names []string
	if o.client {
		names = append(names, "client")
	}
	ids := make([]ID, 0, len(o.over))
	for id := range o.over {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		names = append(names, fmt.Sprintf("%s:%d", o.over[id], id))
	}
	return names
}

// held reports whether anybody holds the object.
func (o *object) held() bool { return o.client || len(o.over) > 0 }

// String is the object's name in messages, such as "mount 7".
func (o *object) String() string { return fmt.Sprintf("%s %d", o.kind, o.id) }

// name is the container's name, else "".
func (o *object) name() string {
	if o.container == nil {
		return ""
	}
	return string(o.container.Name)
}
