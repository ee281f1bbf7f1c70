package server

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// open asks for a stream and gives its lines as they come.
func open(t *testing.T, client *http.Client, url string, header http.Header) (<-chan string, *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return lines, resp
}

func expect(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := soon(t, "the line "+w, lines); got != w {
			t.Fatalf("line %q, want %q", got, w)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, scheme := range []string{"unix", "http"} {
		chain := &fakeChain{more: make(chan *models.Event), feed: []*models.Event{{ID: 4, Type: "gap"}, {ID: 5, Type: "mount.ready", Object: 2}}}
		_, clients, urls, _ := serve(t, chain, Config{Heartbeat: time.Hour})
		lines, resp := open(t, clients[scheme], urls[scheme]+base+"/event?since=0", http.Header{})
		if resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("Content-Type %q", resp.Header.Get("Content-Type"))
		}
		expect(t, lines, "retry: 2000", "", "id: 4", "event: gap", `data: {"id":4,"time":"0001-01-01T00:00:00.000Z","type":"gap"}`, "")
		expect(t, lines, "id: 5", "event: mount.ready", `data: {"id":5,"object":2,"time":"0001-01-01T00:00:00.000Z","type":"mount.ready"}`, "")
		chain.more <- &models.Event{ID: 6, Type: "mount.gone"}
		expect(t, lines, "id: 6", "event: mount.gone")
		resp.Body.Close()
	}
}

// A browser comes back with the query of its first request and a header that is newer.
func TestEventsGoOnWhereTheClientWas(t *testing.T) {
	chain := &fakeChain{feed: []*models.Event{{ID: 4, Type: "gap"}, {ID: 5, Type: "mount.ready"}}}
	_, clients, urls, _ := serve(t, chain, Config{})
	lines, _ := open(t, clients["http"], urls["http"]+base+"/event?since=0&follow=false", http.Header{"Last-Event-Id": {"4"}})
	expect(t, lines, "retry: 2000", "", "id: 5")
	if chain.since == nil || *chain.since != 4 {
		t.Errorf("since %v", chain.since)
	}
	for range lines { // it ends by itself
	}
}

func TestEventsWithoutSinceAreNewOnes(t *testing.T) {
	chain := &fakeChain{}
	s, _ := newServer(t, chain, Config{})
	if w := ask(s.Handler(), "GET", base+"/event?follow=false", "", ""); w.Code != 200 || chain.since != nil {
		t.Errorf("%d since %v", w.Code, chain.since)
	}
	r := httptest.NewRequest("GET", base+"/event", nil)
	r.Header.Set("Last-Event-ID", "abc")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if e := errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body); w.Code != 422 || e.Code != 601 {
		t.Errorf("%d %+v", w.Code, e)
	}
}

func TestEventsShowThatTheyLive(t *testing.T) {
	_, clients, urls, _ := serve(t, &fakeChain{}, Config{Heartbeat: time.Millisecond})
	lines, _ := open(t, clients["unix"], urls["unix"]+base+"/event", http.Header{})
	expect(t, lines, "retry: 2000", "", ": alive", "", ": alive")
}

func TestWait(t *testing.T) {
	chain := &fakeChain{waits: func(ctx context.Context) (*models.Container, error) {
		<-ctx.Done()
		return nil, fault.New(fault.Timeout, "wait for container 7: %w", ctx.Err())
	}}
	s, _ := newServer(t, chain, Config{})
	w := ask(s.Handler(), "GET", base+"/container/7/wait?timeout=0.01", "", "")
	if e := errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body); w.Code != 504 || e.Kind != "timeout" {
		t.Errorf("%d %+v", w.Code, e)
	}
	chain.waits = func(context.Context) (*models.Container, error) { return &models.Container{ID: 7}, nil }
	if w := ask(s.Handler(), "GET", base+"/container/7/wait?condition=ready", "", ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestLog(t *testing.T) {
	long := strings.Repeat(strings.Repeat("y", 99)+"\n", 2000) // more than a chunk of the backward search
	for name, c := range map[string]struct {
		text, query, ranged string
		status              int
		want                string
	}{
		"all":             {"a\nb\n", "", "", 200, "a\nb\n"},
		"empty":           {"", "", "", 200, ""},
		"range":           {"0123456789", "", "bytes=2-4", 206, "234"},
		"end":             {"0123456789", "", "bytes=-3", 206, "789"},
		"tail":            {"a\nb\nc\n", "?tail=2", "", 200, "b\nc\n"},
		"tail of part":    {"a\nb\nc", "?tail=2", "", 200, "b\nc"},
		"tail of nothing": {"a\n", "?tail=0", "", 200, ""},
		"tail of more":    {"a\nb\n", "?tail=9", "", 200, "a\nb\n"},
		"empty lines":     {"a\n\n\n", "?tail=2", "", 200, "\n\n"},
		"tail of empty":   {"", "?tail=3", "", 200, ""},
		"long":            {long, "?tail=1500", "", 200, long[:150_000]},
	} {
		s, _ := newServer(t, &fakeChain{console: newLog(c.text)}, Config{})
		r := httptest.NewRequest("GET", base+"/container/7/log"+c.query, nil)
		if c.ranged != "" {
			r.Header.Set("Range", c.ranged)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.status || w.Body.String() != c.want || w.Header().Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d %q, want %d %.50q", name, w.Code, w.Body.String(), c.status, c.want)
		}
	}
}

func TestLogOfABadRange(t *testing.T) {
	s, _ := newServer(t, &fakeChain{console: newLog("abc")}, Config{})
	r := httptest.NewRequest("GET", base+"/container/7/log", nil)
	r.Header.Set("Range", "bytes=10-")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body)
	if w.Code != 416 || w.Header().Get("Content-Range") != "bytes */3" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

func TestLogFollows(t *testing.T) {
	chain := &fakeChain{console: newLog("one\ntwo\n")}
	_, clients, urls, _ := serve(t, chain, Config{})
	lines, _ := open(t, clients["http"], urls["http"]+base+"/container/7/log?follow=true&tail=1", http.Header{})
	expect(t, lines, "two")
	for i := range 3 {
		chain.console.write("more "+strconv.Itoa(i)+"\n", false)
		expect(t, lines, "more "+strconv.Itoa(i))
	}
	chain.console.write("last\n", true)
	expect(t, lines, "last")
	if line, more := <-lines; more {
		t.Errorf("then came %q", line)
	}
}

func TestLogFollowedIsLetGoWithItsClient(t *testing.T) {
	s, clients, urls, _ := serve(t, &fakeChain{console: newLog("one\n")}, Config{})
	_, resp := open(t, clients["unix"], urls["unix"]+base+"/container/7/log?follow=true", http.Header{})
	busy(t, s, 1, 0)
	resp.Body.Close()
	busy(t, s, 0, 0)
	io.Copy(io.Discard, resp.Body)
}
