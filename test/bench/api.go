package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// api calls one server of the ImageAPI. It keeps one connection.
type api struct{ client *http.Client }

func newAPI(network, address string) *api {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return &api{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}, Timeout: 60 * time.Second}}
}

// object is what the measurements read of an answer.
type object struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
	Error string `json:"error"`
}

type wire map[string]any

// call makes a request; an answer that is no success is an error with the server's message.
func (a *api) call(method, path string, body, into any) error {
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, "http://windlass/imageapi/v1"+path, in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, strings.TrimSpace(string(data)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

func (a *api) post(path string, body any) (object, error) {
	var o object
	return o, a.call(http.MethodPost, path, body, &o)
}

func (a *api) remove(path string, id int64) error {
	return a.call(http.MethodDelete, fmt.Sprintf("%s?id=%d", path, id), nil, nil)
}

// ended waits by asking the server to answer when the container has ended.
func (a *api) ended(id int64) error {
	var o object
	if err := a.call(http.MethodGet, fmt.Sprintf("/container/%d/wait?condition=ended&timeout=30", id), nil, &o); err != nil {
		return err
	}
	return exited(o)
}

// pollEnded waits by asking again and again, for a server that knows nothing better.
func (a *api) pollEnded(id int64) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Microsecond) {
		var list []object
		if err := a.call(http.MethodGet, fmt.Sprintf("/container?id=%d", id), nil, &list); err != nil {
			return err
		}
		if len(list) == 1 && list[0].State != "running" && list[0].State != "stopping" {
			return exited(list[0])
		}
	}
	return errors.New("the container did not end within 30 s")
}

func exited(o object) error {
	if o.State != "exited" {
		return fmt.Errorf("container %d is %s: %s", o.ID, o.State, o.Error)
	}
	return nil
}
