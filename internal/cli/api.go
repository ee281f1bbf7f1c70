package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/windlass-hpc/windlass/swagger/client/attachments"
	"github.com/windlass-hpc/windlass/swagger/client/containers"
	"github.com/windlass-hpc/windlass/swagger/client/mounts"
	"github.com/windlass-hpc/windlass/swagger/execstream"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// apiError is the daemon's refusal.
type apiError struct {
	status  int
	payload models.Error
}

func (e *apiError) Error() string {
	if e.payload.Message != nil && *e.payload.Message != "" {
		return *e.payload.Message
	}
	return fmt.Sprintf("the daemon answered %d %s without a message", e.status, http.StatusText(e.status))
}

func (e *apiError) details() string {
	text := fmt.Sprintf("status %d", e.status)
	if e.payload.Code != 0 && e.payload.Code != int64(e.status) {
		text += fmt.Sprintf(", code %d", e.payload.Code)
	}
	if e.payload.Kind != "" {
		text += ", kind " + e.payload.Kind
	}
	if e.payload.RequestID != "" {
		text += ", request " + e.payload.RequestID
	}
	return text
}

func (e *apiError) exitCode() int {
	switch e.status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict:
		return exitConflict
	case http.StatusGatewayTimeout:
		return exitTimeout
	}
	return exitFailed
}

// fault turns what the generated client answers into an error that a person reads.
func (c *api) fault(err error) error {
	var refused interface {
		Code() int
		GetPayload() *models.Error
	}
	var stream *execstream.Error
	var op *net.OpError
	var request *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		e := &apiError{status: refused.Code()}
		if p := refused.GetPayload(); p != nil {
			e.payload = *p
		}
		return e
	case errors.As(err, &stream):
		status := stream.Status
		if status == 0 {
			status = int(stream.Payload.Code)
		}
		return &apiError{status, stream.Payload}
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted: %w", err)
	case errors.As(err, &op) && op.Op == "dial":
		return &unreachableError{c.addr, err}
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("gave up after --timeout: %w", context.DeadlineExceeded)
	case errors.As(err, &request):
		return &unreachableError{c.addr, request.Err}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		return fmt.Errorf("the connection to the daemon at %s broke; what it was asked for may go on: %w", c.addr, err)
	}
	return fmt.Errorf("what answers at %s is not windlass: %w", c.addr, err)
}

func (c *api) containers(ctx context.Context, id *int64, name, state *string) ([]*models.Container, error) {
	p := containers.NewListContainersParamsWithTimeout(0).WithID(id).WithName(name).WithState(state)
	ok, err := c.Containers.ListContainersContext(ctx, p)
	if err != nil {
		return nil, c.fault(err)
	}
	return ok.Payload, nil
}

func (c *api) mounts(ctx context.Context, id *int64, kind *string) ([]*models.Mount, error) {
	ok, err := c.Mounts.ListMountsContext(ctx, mounts.NewListMountsParamsWithTimeout(0).WithID(id).WithKind(kind))
	if err != nil {
		return nil, c.fault(err)
	}
	return ok.Payload, nil
}

func (c *api) attachments(ctx context.Context, id *int64, kind *string) ([]*models.Attach, error) {
	ok, err := c.Attachments.ListAttachmentsContext(ctx, attachments.NewListAttachmentsParamsWithTimeout(0).WithID(id).WithKind(kind))
	if err != nil {
		return nil, c.fault(err)
	}
	return ok.Payload, nil
}

// create raises an object of any kind and answers it.
func (c *api) create(ctx context.Context, spec object) (object, error) {
	switch spec := spec.(type) {
	case *models.Attach:
		ok, err := c.Attachments.AttachContext(ctx, attachments.NewAttachParamsWithTimeout(0).WithAttach(spec))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	case *models.Mount:
		ok, err := c.Mounts.MountContext(ctx, mounts.NewMountParamsWithTimeout(0).WithMount(spec))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	case *models.Container:
		ok, err := c.Containers.CreateContainerContext(ctx, containers.NewCreateContainerParamsWithTimeout(0).WithContainer(spec))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	}
	return nil, fmt.Errorf("create a %T: no such kind", spec)
}

// remove takes an object down and answers what it was.
func (c *api) remove(ctx context.Context, o object, force bool) (object, error) {
	id := int64(idOf(o))
	switch o.(type) {
	case *models.Attach:
		ok, err := c.Attachments.DeleteAttachContext(ctx, attachments.NewDeleteAttachParamsWithTimeout(0).WithID(id).WithForce(&force))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	case *models.Mount:
		ok, err := c.Mounts.DeleteMountContext(ctx, mounts.NewDeleteMountParamsWithTimeout(0).WithID(id).WithForce(&force))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	case *models.Container:
		ok, err := c.Containers.DeleteContainerContext(ctx, containers.NewDeleteContainerParamsWithTimeout(0).WithID(&id).WithForce(&force))
		if err != nil {
			return nil, c.fault(err)
		}
		return ok.Payload, nil
	}
	return nil, fmt.Errorf("delete a %T: no such kind", o)
}

func (c *api) setState(ctx context.Context, id int64, state string, grace *int64) (*models.Container, error) {
	p := containers.NewSetContainerStateParamsWithTimeout(0).WithID(&id).WithState(state).WithTimeout(grace)
	ok, err := c.Containers.SetContainerStateContext(ctx, p)
	if err != nil {
		return nil, c.fault(err)
	}
	return ok.Payload, nil
}

func (c *api) wait(ctx context.Context, id int64, condition string) (*models.Container, error) {
	ok, err := c.Containers.WaitContainerContext(ctx, containers.NewWaitContainerParamsWithTimeout(0).WithID(id).WithCondition(&condition))
	if err != nil {
		return nil, c.fault(err)
	}
	return ok.Payload, nil
}

// endpoint is the URL of a path of the API.
func (c *api) endpoint(path ...string) string { return c.base + "/" + strings.Join(path, "/") }
