package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// Variable names the environment variable with the URL of the lab.
const Variable = "WINDLASS_LAB"

// patience is how long an order may take.
const patience = 90 * time.Second

// Client reaches one lab.
type Client struct{ url string }

// Dial gives a client of the lab that this test runs in. It ends the test when that runs in none: such tests have the build tag lab, and
// test/lab/run.sh runs them.
func Dial(t testing.TB) *Client {
	t.Helper()
	u := os.Getenv(Variable)
	if u == "" {
		t.Fatalf("%s is not set: this test runs in a guest only, by test/lab/run.sh", Variable)
	}
	return &Client{url: u}
}

// do sends a request and gives the answer's body. Orders of clean-ups come when the test's own context has ended, so it is not used.
func (c *Client) do(method, path string, query url.Values, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the lab says %d to %s: %s", resp.StatusCode, path, bytes.TrimSpace(data))
	}
	return data, nil
}

// Info says what the lab has.
func (c *Client) Info(t testing.TB) Info {
	t.Helper()
	data, err := c.do("GET", "/info", nil, nil)
	var info Info
	if err == nil {
		err = json.Unmarshal(data, &info)
	}
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Try runs a program on the servers' side with stdin, which may be nil; a program that fails is no error.
func (c *Client) Try(stdin io.Reader, name string, args ...string) (Result, error) {
	return c.try("", stdin, name, args)
}

// try runs a program for one of the clusters of Ceph.
func (c *Client) try(cluster string, stdin io.Reader, name string, args []string) (Result, error) {
	data, err := c.do("POST", "/run", url.Values{"name": {name}, "arg": args, "cluster": {cluster}}, stdin)
	var r Result
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// Feed runs a program on the servers' side with stdin and gives what it prints; the test ends when it fails.
func (c *Client) Feed(t testing.TB, stdin io.Reader, name string, args ...string) string {
	t.Helper()
	return c.feed(t, "", stdin, name, args)
}

func (c *Client) feed(t testing.TB, cluster string, stdin io.Reader, name string, args []string) string {
	t.Helper()
	r, err := c.try(cluster, stdin, name, args)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if r.Code != 0 {
		t.Fatalf("%s %s on the servers' side ended with code %d\n%s%s", name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return string(r.Stdout)
}

// Run runs a program on the servers' side and gives what it prints; the test ends when it fails.
func (c *Client) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return c.Feed(t, nil, name, args...)
}

// Put writes a file on the servers' side. A path that is not absolute is below the lab's directory, as programs see it too.
func (c *Client) Put(t testing.TB, path string, content io.Reader) {
	t.Helper()
	if _, err := c.do("PUT", "/file", url.Values{"path": {path}}, content); err != nil {
		t.Fatal(err)
	}
}

// Get reads a file on the servers' side.
func (c *Client) Get(t testing.TB, path string) []byte {
	t.Helper()
	data, err := c.do("GET", "/file", url.Values{"path": {path}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Signal sends a signal, such as STOP, to a server (osd, mon, tgt or nfs), and comes back when it has worked. At the end of the test the server goes on or is started
// again, unless that has been done.
func (c *Client) Signal(t testing.TB, server, signal string) {
	t.Helper()
	if _, err := c.do("POST", "/signal", url.Values{"server": {server}, "signal": {signal}}, nil); err != nil {
		t.Fatal(err)
	}
	switch signal {
	case "STOP":
		t.Cleanup(func() { _, _ = c.do("POST", "/signal", url.Values{"server": {server}, "signal": {"CONT"}}, nil) })
	case "KILL", "TERM":
		t.Cleanup(func() { _, _ = c.do("POST", "/start", url.Values{"server": {server}}, nil) })
	}
}

// Start starts a server that has ended and comes back when it serves.
func (c *Client) Start(t testing.TB, server string) {
	t.Helper()
	if _, err := c.do("POST", "/start", url.Values{"server": {server}}, nil); err != nil {
		t.Fatal(err)
	}
}
