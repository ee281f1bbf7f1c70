package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// chunkfs is ours, raised through the daemon's API like any mount.
type chunkfs struct {
	s      setting
	web    *web
	label  string
	mode   string
	traced bool // the trace of the workload has been recorded, and is replayed

	cmd  *exec.Cmd
	id   int64
	last string // the workload that the last trace is of
}

func (c *chunkfs) name() string            { return c.label }
func (c *chunkfs) lazy() bool              { return c.mode != "direct" }
func (c *chunkfs) program(p string) string { return filepath.Join(c.s.bin, p) }
func (c *chunkfs) at(p string) string      { return filepath.Join(c.s.work, "windlass", p) }
func (c *chunkfs) store() string           { return filepath.Join(c.web.dir, "windlass") }
func (c *chunkfs) url() string             { return "http://" + c.web.addr + "/windlass" }
func (c *chunkfs) socket() string          { return c.at("run/api.sock") }

func (c *chunkfs) prepare(ctx context.Context) error {
	if err := os.MkdirAll(c.at(""), 0o755); err != nil {
		return err
	}
	return output(exec.CommandContext(ctx, c.program("windlass"), "image", "build", c.s.tree, "-o", c.store(), "--tag", "image"))
}

// cold starts a daemon of our own; the chunkfs server is started by the first mount, and counts.
func (c *chunkfs) cold(ctx context.Context, w workload) error {
	if c.traced && c.last != w.name {
		if err := c.record(ctx, w); err != nil {
			return fmt.Errorf("record a trace: %w", err)
		}
		c.last = w.name
	}
	if !c.lazy() { // what is complete stays: that nothing has to be fetched is what is measured
		return c.fill(ctx)
	}
	if err := os.RemoveAll(c.at("cache")); err != nil {
		return err
	}
	return c.serve(ctx)
}

// fill brings the whole image into the cache.
func (c *chunkfs) fill(ctx context.Context) error {
	if err := c.serve(ctx); err != nil {
		return err
	}
	if _, err := c.raise(ctx, c.part("all", "boot", "lazy")); err != nil {
		return err
	}
	for {
		var all []models.Mount
		if err := c.call(ctx, http.MethodGet, fmt.Sprintf("/imageapi/v1/mount?id=%d", c.id), nil, &all); err != nil {
			return err
		}
		if len(all) == 1 && all[0].Chunkfs.Status != nil && all[0].Chunkfs.Status.Complete {
			return c.lower(ctx)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// record raises the tree, does the work, and leaves the trace of it in the store.
func (c *chunkfs) record(ctx context.Context, w workload) error {
	if err := os.RemoveAll(c.at("cache")); err != nil {
		return err
	}
	if err := c.serve(ctx); err != nil {
		return err
	}
	defer func() { _ = c.unmount() }()
	dir, err := c.raise(ctx, c.part("none", "", c.mode))
	if err != nil {
		return err
	}
	server := control.Client{Socket: c.control()}
	id := strconv.FormatInt(c.id, 10)
	if err := server.StartTrace(ctx, id); err != nil {
		return err
	}
	if err := w.run(ctx, dir); err != nil {
		return err
	}
	trace, err := server.StopTrace(ctx, id)
	if err != nil {
		return err
	}
	trace.Role = role(w)
	st, err := store.Open(c.store())
	if err != nil {
		return err
	}
	return st.PutTrace(ctx, &trace)
}

func role(w workload) string { return strings.ReplaceAll(w.name, " ", "-") }

func (c *chunkfs) part(prefetch, role, mode string) map[string]any {
	part := map[string]any{"image": "image", "origins": []any{map[string]any{"url": c.url()}}, "mode": mode, "prefetch": prefetch}
	if role != "" {
		part["role"] = role
	}
	return part
}

func (c *chunkfs) serve(ctx context.Context) error {
	c.cmd = exec.Command(c.program("windlass"), "serve", "--run-dir", c.at("run"), "--socket-path", c.socket(), "--log-level", "warn",
		"--chunkfs-cache", c.at("cache"))
	if err := start(c.cmd, c.at("log")); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := c.call(ctx, http.MethodGet, "/healthz", nil, nil); err == nil {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}

func (c *chunkfs) mount(ctx context.Context, w workload) (string, error) {
	if c.traced {
		return c.raise(ctx, c.part("trace", role(w), c.mode))
	}
	return c.raise(ctx, c.part("none", "", c.mode))
}

func (c *chunkfs) raise(ctx context.Context, part map[string]any) (string, error) {
	var m models.Mount
	if err := c.call(ctx, http.MethodPost, "/imageapi/v1/mount", map[string]any{"kind": "chunkfs", "chunkfs": part}, &m); err != nil {
		return "", err
	}
	c.id = int64(m.ID)
	return m.Mountpoint, nil
}

func (c *chunkfs) unmount() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := c.lower(ctx)
	_ = ended(c.cmd)
	// The server goes when nobody needs it any more; the next daemon is to start its own.
	for ctx.Err() == nil {
		if _, e := os.Stat(c.control()); e != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func (c *chunkfs) control() string { return c.at("run/chunkfs/control.sock") }

func (c *chunkfs) lower(ctx context.Context) error {
	if c.id == 0 {
		return nil
	}
	id := c.id
	c.id = 0
	return c.call(ctx, http.MethodDelete, fmt.Sprintf("/imageapi/v1/mount?id=%d", id), nil, nil)
}

// call speaks to the daemon.
func (c *chunkfs) call(ctx context.Context, method, path string, body, answer any) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.socket())
	}}}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://windlass"+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
