package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/redact"
)

// message is what is posted; see bootstage.Report for how it is read.
type message struct {
	MAC     string          `json:"mac"`
	Host    string          `json:"host,omitempty"`
	Stage   bootstage.Stage `json:"stage"`
	State   bootstage.State `json:"state"`
	Uptime  int64           `json:"uptime_ms"`
	Sent    int64           `json:"sent_ms"`
	Took    int64           `json:"took_ms"`
	Time    time.Time       `json:"time"`
	Message string          `json:"message,omitempty"`
	Error   string          `json:"error,omitempty"`

	text string
}

// Reporter posts what happens to a URL, one after the other, once there is a network. It holds up nobody: the oldest of what there is no room
// for, what the server refuses, and what could not be posted after some tries, is forgotten.
type Reporter struct {
	url    string // may hold a password
	who    func() (mac, host string)
	failed func(error)
	pause  time.Duration
	http   *http.Client

	ready chan struct{} // closed: the network is there
	once  sync.Once
	queue *queue
}

const (
	queued       = 128             // reports that may wait
	tries        = 4               // for one report
	postPatience = 5 * time.Second // for one try
)

// NewReporter posts to url until ctx ends. who tells about the node when a report is posted; failed is told what could not be, by the
// reporter's goroutine.
func NewReporter(ctx context.Context, url string, who func() (mac, host string), failed func(error)) *Reporter {
	r := &Reporter{url: url, who: who, failed: failed, pause: time.Second, http: &http.Client{Timeout: postPatience},
		ready: make(chan struct{}), queue: newQueue()}
	go r.run(ctx)
	return r
}

// Network tells that there is one.
func (r *Reporter) Network() { r.once.Do(func() { close(r.ready) }) }

func (r *Reporter) add(m message) {
	m.Time = time.Now()
	m.text = strings.ToValidUTF8(m.text[:min(len(m.text), bootstage.MaxText)], "") // more than that the server does not take
	r.queue.add(m)
}

func (r *Reporter) run(ctx context.Context) {
	select {
	case <-r.ready:
	case <-ctx.Done():
		return
	}
	for well := true; ; {
		m, ok := r.queue.next()
		if !ok {
			select {
			case <-r.queue.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := r.post(ctx, m)
		if err != nil && ctx.Err() == nil && well {
			r.failed(err) // once, until it goes again
		}
		well = err == nil
		r.queue.done()
	}
}

// post tries several times, with pauses that grow and differ from node to node.
func (r *Reporter) post(ctx context.Context, m message) (err error) {
	if m.MAC, m.Host = r.who(); m.State == bootstage.Failed {
		m.Error = m.text
	} else {
		m.Message = m.text
	}
	for n := range tries {
		m.Sent = Uptime().Milliseconds() // anew each time: the server knows by it when this happened
		err = r.send(ctx, m)
		if err == nil {
			return nil
		}
		if no := (refusal{}); errors.As(err, &no) {
			break
		}
		d := r.pause << n
		select {
		case <-time.After(d/2 + rand.N(d)): //nolint:gosec // not a secret
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("report %s to %s: %w", m.Stage, redact.URL(r.url), err)
}

func (r *Reporter) send(ctx context.Context, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the URL cannot be right")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "windlass-init")
	resp, err := r.http.Do(req)
	if err != nil {
		return unwrapped(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if resp.StatusCode >= 300 {
		return answer(resp)
	}
	return nil
}

// refusal is an answer that will not be another one the next time.
type refusal struct{ status string }

func (r refusal) Error() string { return "the server answers " + r.status }

func answer(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	return refusal{resp.Status}
}

// unwrapped leaves out the URL, which net/http quotes with its query.
func unwrapped(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Flush waits until all has been posted or given up, at most so long.
func (r *Reporter) Flush(patience time.Duration) {
	select {
	case <-r.queue.empty():
	case <-time.After(patience):
	}
}
