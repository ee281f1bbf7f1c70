// Package container says what a container runtime is: it starts one process tree in a root file system, in namespaces and a cgroup of its
// own, keeps its log and its exit, and outlives the daemon. The one for Linux lies in package linux.
//
// The package owns the contract, never a process. containertest holds a runtime to it.
package container

import (
	"context"
	"io"
	"time"

	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// ID is the number of the container in the chain.
type ID = models.ID

// State is where a container is in its life, as the runtime sees it.
type State string

// The states. Only the moves in the comment happen.
const (
	Absent  State = "absent"  // the runtime knows nothing of it → Running
	Running State = "running" // → Paused, Exited
	Paused  State = "paused"  // → Running, Exited
	Exited  State = "exited"  // it ended and nothing of it runs → Absent (Remove)
)

// Status is what the runtime knows of a container. Times are zero when they have not come.
type Status struct {
	State      State
	PID        int  // of its first process, as the node sees it; 0 when it does not run
	Ready      bool // systemd has said so; for another command: it runs
	ExitCode   int  // valid in Exited; 128 + N when signal N ended it
	ExitSignal string
	OOMKilled  bool
	Error      string // why it was lost, such as a shim that was killed
	Started    time.Time
	Finished   time.Time
}

// Process is the way to a process started by Exec. The caller closes all three when done.
type Process interface {
	// Stdin is written to; closing it is end of file for the process.
	Stdin() io.WriteCloser
	// Stdout is read until EOF. With a terminal it is the terminal's output.
	Stdout() io.ReadCloser
	// Stderr is nil with a terminal.
	Stderr() io.ReadCloser
	// Resize sets the size of the terminal; without one it does nothing.
	Resize(rows, columns uint16) error
	// Wait gives the exit once the process has ended; it may be called from several goroutines.
	Wait(ctx context.Context) (Exit, error)
	// Close kills the process when it still runs and frees everything.
	Close() error
}

// Exit is how a process ended.
type Exit struct {
	Code   int    // 128 + N when signal N ended it
	Signal string // such as SIGKILL; else empty
}

// Log is what a container wrote to its console.
type Log interface {
	io.ReadSeekCloser
	// Size is how much there is now, older rotated part included, in bytes.
	Size() (int64, error)
	// WaitMore returns when there is more to read than offset, or io.EOF when no more can come.
	WaitMore(ctx context.Context, offset int64) error
}

// Runtime runs containers.
//
// Calls for one ID come one at a time, but for Status, Watch, Exec, OpenLog and Signal, which come at any time; calls for different IDs
// come from many goroutines at once. Every change to the node is made within step.Do. Errors carry a kind (internal/fault): Invalid for
// what the caller got wrong (no such init in the image, unknown user), BadState when the container is not in a state for it.
type Runtime interface {
	// Validate checks the spec alone. It touches nothing; an error is of kind Invalid and names the field.
	Validate(spec *models.Container) error
	// Check looks at what Start would need in root, the mountpoint: the init, the user, the working directory. It changes nothing.
	Check(ctx context.Context, spec *models.Container, root string) error
	// Start starts it in root and returns once its command has been executed. When it fails, or ctx ends, nothing is left of it. With a
	// user namespace, a root whose owner is among the ids of that is taken as it is; another is shown with these ids.
	// After an earlier Exited of the same ID the log goes on.
	Start(ctx context.Context, id ID, spec *models.Container, root string) (Status, error)
	// Status asks what there is of id; Absent is no error.
	Status(ctx context.Context, id ID) (Status, error)
	// Watch sends the status at once and at every change. The channel is closed after Exited or Absent, and when ctx ends.
	Watch(ctx context.Context, id ID) (<-chan Status, error)
	// Signal sends a signal to the first process. Not running: kind BadState.
	Signal(ctx context.Context, id ID, signal int) error
	// Kill ends everything of it at once and returns when it has ended. Not running: success.
	Kill(ctx context.Context, id ID) error
	// Pause and Resume freeze and thaw everything of it; they return when it is so. Already so: success.
	Pause(ctx context.Context, id ID) error
	Resume(ctx context.Context, id ID) error
	// Exec starts a further process in it; a command that is not there is an error of kind Invalid here, not a Process.
	Exec(ctx context.Context, id ID, spec *models.ExecSpec) (Process, error)
	// LogPath is where the log is.
	LogPath(id ID) string
	// OpenLog opens the log for reading.
	OpenLog(ctx context.Context, id ID) (Log, error)
	// Remove forgets it: kills what still runs, removes its cgroups, its directory and its log. Absent: success. It may be called
	// again after a failure.
	Remove(ctx context.Context, id ID) error
	// List gives the IDs of all that there is anything of: a directory, a cgroup or a process.
	List(ctx context.Context) ([]ID, error)
}

// Preparer is a Runtime that can begin with a start before the root is mounted.
type Preparer interface {
	// Prepare begins what a Start of id in root, which follows or not, needs no root for, and returns at once. What it makes is undone
	// by cancel, which does nothing once Start has been called, and by Remove, which waits for either to be done. Start tells what failed.
	Prepare(ctx context.Context, id ID, root string) (cancel func())
}

// UserMapper is a Runtime that knows, before the root is mounted, which ids of the node a container gets.
type UserMapper interface {
	// IDs gives the ids of the user namespace of spec as container id; nil when it has none of its own. It is the same at every call.
	IDs(id ID, spec *models.Container) *idmap.Range
}
