package badinput

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/daemon"
)

func TestMain(m *testing.M) { daemon.Main(m) }

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

// logUntil follows a container's log until a line is the one given, and gives all up to it.
func logUntil(t *testing.T, n *daemon.Node, id models.ID, last string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://windlass/imageapi/v1/container/%d/log?follow=true", id), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.Client().Do(req)
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

// says holds that a message has each of the words.
func says(t *testing.T, message string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("%q does not say %q", message, w)
		}
	}
}

// gone deletes a container and waits until nothing is listed.
func gone(t *testing.T, d *daemon.Daemon, id models.ID) {
	t.Helper()
	daemon.Gone(t, d, fmt.Sprintf("id=%d", id))
}
