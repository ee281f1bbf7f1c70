package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	oaerrors "github.com/go-openapi/errors"

	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server/contract"
)

// reconnect is how long a browser waits before it comes back.
const reconnect = "retry: 2000\n\n"

// events streams what happens as Server-Sent Events. See https://html.spec.whatwg.org/multipage/server-sent-events.html.
func (s *Server) events(w http.ResponseWriter, c *call) error {
	since, err := lastSeen(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.streamContext(c.Context())
	defer cancel()
	events := s.chain.Events(ctx, since, c.params.Bool("follow"))
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	if _, err := w.Write([]byte(reconnect)); err != nil {
		return fmt.Errorf("stream events: %w", err)
	}
	beat := time.NewTicker(s.config.Heartbeat)
	defer beat.Stop()
	for {
		if err := rc.Flush(); err != nil {
			return fmt.Errorf("stream events: %w", err)
		}
		select {
		case <-beat.C:
			_, err = w.Write([]byte(": alive\n\n"))
		case event, more := <-events:
			if !more {
				return nil // a client comes back with Last-Event-ID; nothing is lost
			}
			err = writeEvent(w, event)
		}
		if err != nil {
			return fmt.Errorf("stream events: %w", err)
		}
	}
}

func writeEvent(w http.ResponseWriter, event *models.Event) error {
	data, err := json.Marshal(event) // without a line break
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if event.ID > 0 {
		fmt.Fprintf(&buf, "id: %d\n", event.ID)
	}
	fmt.Fprintf(&buf, "event: %s\ndata: %s\n\n", printable(event.Type), data)
	_, err = w.Write(buf.Bytes())
	return err
}

// lastSeen prefers the header: a browser that comes back sends the old query with a new header.
func lastSeen(c *call) (*int64, error) {
	text := c.params.Text("Last-Event-ID")
	if text == "" {
		return c.params.Int64("since"), nil
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return nil, &contract.Violation{
			Code:    oaerrors.InvalidTypeCode,
			Message: fmt.Sprintf("Last-Event-ID in header must be the number of an event, not %q", printable(text)),
		}
	}
	return &id, nil
}
