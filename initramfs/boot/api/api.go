// Package api speaks with the daemon of this node over its socket, as far as the first process of a node needs it.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// base is where the API lies.
const base = "http://windlass/imageapi/v1"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// Client is a client. Errors of the daemon keep their kind; when no daemon answers it is Unavailable.
type Client struct{ http *http.Client }

// New makes a client for the daemon at the socket.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 2, IdleConnTimeout: time.Minute}}}
}

// Create raises a container; the answer comes when it is up.
func (c *Client) Create(ctx context.Context, spec *models.Container) (*models.Container, error) {
	return send[models.Container](ctx, c, http.MethodPost, "/container", nil, spec)
}

// Mount raises a mount.
func (c *Client) Mount(ctx context.Context, spec *models.Mount) (*models.Mount, error) {
	return send[models.Mount](ctx, c, http.MethodPost, "/mount", nil, spec)
}

// Containers lists them.
func (c *Client) Containers(ctx context.Context) ([]*models.Container, error) {
	return list[*models.Container](ctx, c, "/container")
}

// Mounts lists them.
func (c *Client) Mounts(ctx context.Context) ([]*models.Mount, error) {
	return list[*models.Mount](ctx, c, "/mount")
}

// Attachments lists them.
func (c *Client) Attachments(ctx context.Context) ([]*models.Attach, error) {
	return list[*models.Attach](ctx, c, "/attach")
}

// Wait waits until the container is ready, running or ended.
func (c *Client) Wait(ctx context.Context, id models.ID, condition string) (*models.Container, error) {
	return send[models.Container](ctx, c, http.MethodGet, fmt.Sprintf("/container/%d/wait", id), url.Values{"condition": {condition}}, nil)
}

// Stop asks a container to end; it does not wait for that.
func (c *Client) Stop(ctx context.Context, id models.ID) error {
	query := url.Values{"id": {strconv.FormatInt(int64(id), 10)}, "state": {string(models.ContainerStateExited)}}
	_, err := send[models.Container](ctx, c, http.MethodPatch, "/container", query, nil)
	return err
}

// Delete takes an object of the kind (attach, mount, container) down.
func (c *Client) Delete(ctx context.Context, kind string, id models.ID, force bool) error {
	query := url.Values{"id": {strconv.FormatInt(int64(id), 10)}, "force": {strconv.FormatBool(force)}}
	_, err := send[struct{}](ctx, c, http.MethodDelete, "/"+kind, query, nil)
	return err
}

func list[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	l, err := send[[]T](ctx, c, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	return *l, nil
}

// send makes one request and reads its answer.
func send[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (*T, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path+"?"+query.Encode(), in)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fault.New(fault.Unavailable, "the daemon does not answer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "the daemon's answer broke off: %w", err)
	}
	if resp.StatusCode >= 300 {
		return nil, refused(resp.StatusCode, text)
	}
	out := new(T)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return out, nil
}

// refused is what the daemon says of an error.
func refused(status int, text []byte) error {
	var e models.Error
	if json.Unmarshal(text, &e) != nil || e.Message == nil {
		return fault.New(fault.Unavailable, "the daemon answers %d %s", status, http.StatusText(status))
	}
	kind := fault.Kind(e.Kind)
	if kind == "" {
		kind = fault.Internal
	}
	return fault.New(kind, "%s", *e.Message)
}
