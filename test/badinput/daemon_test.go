package badinput

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
	"github.com/windlass-hpc/windlass/test/smallroot"
)

func TestMain(m *testing.M) {
	code := m.Run()
	daemon.Clean()
	os.Exit(code)
}

// start gives a node with a daemon on it.
func start(t *testing.T) (*daemon.Node, *daemon.Daemon) {
	t.Helper()
	n := daemon.NewNode(t)
	return n, n.Start(daemon.Options{})
}

func image(t *testing.T) string {
	t.Helper()
	return smallroot.Squashfs(t, filepath.Join(t.TempDir(), "root.squashfs"))
}

// The definitions, as text: what is sent is often nothing that a model could hold.

func loop(path string) string {
	return fmt.Sprintf(`{"kind":"loopback","loopback":{"path":%q,"base":"root"}}`, path)
}

func device(attach, fsType string) string {
	return fmt.Sprintf(`{"kind":"attach","attach":{"fs_type":%q,"attach":%s}}`, fsType, attach)
}

func squashfs(path string) string { return device(loop(path), "squashfs") }

func bind(path string) string {
	return fmt.Sprintf(`{"kind":"bind","bind":{"path":%q,"base":"root"}}`, path)
}

func bindIn(mount, path string) string {
	return fmt.Sprintf(`{"kind":"bind","bind":{"path":%q,"base":"mount","mount":%s}}`, path, mount)
}

func overlay(lower string, more ...string) string {
	return fmt.Sprintf(`{"kind":"overlay","overlay":{"lower":[%s]%s}}`, lower, fields(more))
}

func uri(address string, more ...string) string {
	return fmt.Sprintf(`{"kind":"uri","uri":{"uri":%q%s}}`, address, fields(more))
}

// container is one with root as its mount; more are further fields, such as `"name":"x"`.
func container(root, command string, more ...string) string {
	return fmt.Sprintf(`{"command":%q,"mount":%s%s}`, command, root, fields(more))
}

const running = `"state":"running"`

func fields(more []string) string {
	if len(more) == 0 {
		return ""
	}
	return "," + strings.Join(more, ",")
}

// client is for requests that daemon.Call does not make.
func client(t *testing.T, n *daemon.Node) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", n.Socket())
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// logUntil follows a container's log until a line is the one given, and gives all up to it.
func logUntil(t *testing.T, n *daemon.Node, id models.ID, last string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://windlass/imageapi/v1/container/%d/log?follow=true", id), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t, n).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		text += line + "\n"
		if line == last {
			return text
		}
	}
	t.Fatalf("the log ended without %q:\n%s", last, text)
	return ""
}

// refused sends a request that must be refused, and gives the status and the error.
func refused(t *testing.T, d *daemon.Daemon, method, path string, body any) (int, models.Error) {
	t.Helper()
	var e models.Error
	status, err := d.Call(t.Context(), method, path, body, &e)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.Log())
	}
	if status < 400 || e.Message == nil {
		t.Fatalf("it was not refused: %d %+v", status, e)
	}
	return status, e
}

// untouched holds that nothing is listed and nothing is on the node.
func untouched(t *testing.T, n *daemon.Node, d *daemon.Daemon) {
	t.Helper()
	o, err := d.List(t.Context())
	if err != nil || !o.Empty() {
		t.Errorf("listed: %s %v", o, err)
	}
	if left := n.Left(); len(left) > 0 {
		t.Errorf("left on the node:\n  %s", strings.Join(left, "\n  "))
	}
}

// says holds that a message has each of the words.
func says(t *testing.T, message string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("%q does not say %q", message, w)
		}
	}
}

func wait(t *testing.T, d *daemon.Daemon, id models.ID, condition string) *models.Container {
	t.Helper()
	var c models.Container
	d.Want(http.StatusOK, http.MethodGet, fmt.Sprintf("/container/%d/wait?timeout=20&condition=%s", id, condition), nil, &c)
	return &c
}

// gone deletes a container and waits until nothing is listed.
func gone(t *testing.T, d *daemon.Daemon, id models.ID) {
	t.Helper()
	d.Want(http.StatusOK, http.MethodDelete, fmt.Sprintf("/container?force=true&id=%d", id), nil, nil)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); ; <-tick.C {
		o, err := d.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.Empty() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %s\n%s", o, d.Log())
		}
	}
}
