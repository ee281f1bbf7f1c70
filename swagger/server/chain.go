package server

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Chain is what the server needs of the chain. Every error carries a kind (internal/fault), which the server maps to a status.
//
// The objects answered are the caller's own copies, complete with their nested tree, secrets masked.
type Chain interface {
	// Attachments lists, oldest first. A nil id means all; an unknown one is NotFound. An empty kind means any. It never waits for
	// an operation.
	Attachments(id *int64, kind string) ([]*models.Attach, error)
	// Attach raises an attachment held by `client`. It finishes or undoes what it did also when ctx ends.
	Attach(ctx context.Context, spec *models.Attach) (*models.Attach, error)
	// Detach takes one down. Held by others, or busy in the kernel: Busy.
	Detach(ctx context.Context, id int64, force bool) (*models.Attach, error)

	// Mounts, Mount and Unmount are the same for mounts.
	Mounts(id *int64, kind string) ([]*models.Mount, error)
	Mount(ctx context.Context, spec *models.Mount) (*models.Mount, error)
	Unmount(ctx context.Context, id int64, force bool) (*models.Mount, error)

	// Containers lists; nil and empty mean any. An unknown id or name is NotFound.
	Containers(id *int64, name *string, state string) ([]*models.Container, error)
	// CreateContainer raises the container's chain and starts it when spec.State is running.
	CreateContainer(ctx context.Context, spec *models.Container) (*models.Container, error)
	// DeleteContainer deletes by id or name; one of both must be there. Running: Busy unless force, which stops it first.
	DeleteContainer(ctx context.Context, id *int64, name *string, force bool) (*models.Container, error)
	// SetContainerState asks for running, exited or paused. grace replaces the container's own stop timeout.
	SetContainerState(ctx context.Context, id *int64, name *string, state string, grace *time.Duration) (*models.Container, error)
	// WaitContainer returns when the condition (ended, ready, running) holds, or ctx ends (Timeout).
	WaitContainer(ctx context.Context, id int64, condition string) (*models.Container, error)
	// Exec starts a process in a running container.
	Exec(ctx context.Context, id int64, spec *models.ExecSpec) (container.Process, error)
	// OpenLog opens a container's log.
	OpenLog(ctx context.Context, id int64) (container.Log, error)

	// Events sends the events after since (nil: only new ones), and new ones as they come when follow, until ctx ends. An event of
	// type gap stands for those that are no longer kept, or that a reader was too slow for. The channel is closed at the end.
	Events(ctx context.Context, since *int64, follow bool) <-chan *models.Event

	// Counts gives the number of objects by kind and state.
	Counts() map[string]map[string]int
	// Info describes the daemon.
	Info() *models.Info
}
