package server

import (
	"context"
	"net/http"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func (s *Server) listContainers(w http.ResponseWriter, c *call) error {
	objects, err := s.chain.Containers(c.params.Int64("id"), c.params.String("name"), c.params.Text("state"))
	return list(s, w, objects, err)
}

func (s *Server) createContainer(w http.ResponseWriter, c *call) error {
	spec := &models.Container{}
	if err := c.decode(spec); err != nil {
		return err
	}
	switch spec.State {
	case "", models.ContainerStateCreated, models.ContainerStateRunning:
	default:
		return fault.New(fault.Invalid, "a container cannot be made %s: its state is created or running at first", spec.State)
	}
	object, err := s.chain.CreateContainer(c.Context(), spec)
	return one(s, w, http.StatusCreated, object, err)
}

// idOrName takes what names a container in a query. The message is the forerunner's.
func idOrName(c *call) (id *int64, name *string, err error) {
	id, name = c.params.Int64("id"), c.params.String("name")
	if id == nil && name == nil {
		return nil, nil, fault.New(fault.Invalid, "either ID or Name must be provided")
	}
	return id, name, nil
}

func (s *Server) deleteContainer(w http.ResponseWriter, c *call) error {
	id, name, err := idOrName(c)
	if err != nil {
		return err
	}
	object, err := s.chain.DeleteContainer(c.Context(), id, name, c.params.Bool("force"))
	return one(s, w, http.StatusOK, object, err)
}

func (s *Server) setContainerState(w http.ResponseWriter, c *call) error {
	id, name, err := idOrName(c)
	if err != nil {
		return err
	}
	var grace *time.Duration
	if seconds := c.params.Int64("timeout"); seconds != nil {
		d := time.Duration(*seconds) * time.Second
		grace = &d
	}
	object, err := s.chain.SetContainerState(c.Context(), id, name, c.params.Text("state"), grace)
	return one(s, w, http.StatusOK, object, err)
}

func (s *Server) wait(w http.ResponseWriter, c *call) error {
	ctx, cancel := s.streamContext(c.Context())
	defer cancel()
	if seconds := c.params.Float64("timeout"); seconds != nil {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(*seconds*float64(time.Second)))
		defer stop()
	}
	object, err := s.chain.WaitContainer(ctx, *c.params.Int64("id"), c.params.Text("condition"))
	if err != nil && s.streams.Err() != nil {
		return errStopping()
	}
	return one(s, w, http.StatusOK, object, err)
}

// streamContext ends with the request, and when the server stops.
func (s *Server) streamContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.streams, cancel)
	return ctx, func() { stop(); cancel() }
}

func errStopping() error {
	return fault.Hintf(fault.New(fault.Unavailable, "the daemon is stopping"), "ask again once it is back; containers go on")
}
