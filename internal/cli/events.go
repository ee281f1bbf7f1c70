package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxEvent bounds one line of the stream.
const maxEvent = 4 << 20

func (a *app) eventsCommand() *cobra.Command {
	var (
		since    int64
		noFollow bool
	)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show changes as they happen",
		Long: `Show what happens to containers, mounts and attachments, until interrupted. When the connection breaks it is made again and goes on
where it broke; events that are no longer kept are told of as a gap. With -o json an event is a line.`,
		Example: `  windlass events
  windlass events --since 0 --no-follow
  windlass events -o json | jq -r .type`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since < 0 && cmd.Flags().Changed("since") {
				return usagef(cmd, "--since: it cannot be less than nothing")
			}
			daemon, err := a.connect()
			if err != nil {
				return err
			}
			r := eventReader{daemon: daemon, follow: !noFollow, show: a.showEvent, broken: func(err error) {
				fmt.Fprintf(a.err, "windlass: %s: trying again\n", printable(err.Error()))
			}}
			if cmd.Flags().Changed("since") || noFollow {
				r.last = &since
			}
			return r.read(cmd.Context())
		},
	}
	cmd.Flags().Int64Var(&since, "since", 0, "first those after the event with this number; 0 is all that are kept")
	cmd.Flags().BoolVar(&noFollow, "no-follow", false, "end after those that are kept")
	return cmd
}

func (a *app) showEvent(e *models.Event) error {
	switch a.output {
	case formatJSON:
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	case formatYAML:
		if _, err := io.WriteString(a.out, "---\n"); err != nil {
			return err
		}
		return writeYAML(a.out, e)
	}
	words := []string{time.Time(e.Time).In(a.opts.Now().Location()).Format("2006-01-02T15:04:05.000"), strconv.FormatInt(e.ID, 10), printable(e.Type)}
	if e.Object != 0 {
		words = append(words, fmt.Sprintf("%s %d", printable(e.Kind), e.Object))
	}
	for _, w := range []string{e.Name, e.Message} {
		if w != "" {
			words = append(words, strings.ReplaceAll(printable(w), "\n", " "))
		}
	}
	_, err := fmt.Fprintln(a.out, strings.Join(words, "  "))
	return err
}

// eventReader reads the stream and takes it up again where it broke.
type eventReader struct {
	daemon *api
	last   *int64 // number of the last event seen; nil begins with new ones
	follow bool
	show   func(*models.Event) error
	broken func(error)
}

// errShow marks a failure to show an event: trying again does not help.
var errShow = errors.New("show the event")

func (r *eventReader) read(ctx context.Context) error {
	const longest = 5 * time.Second
	pause := 100 * time.Millisecond
	for first := true; ; first = false {
		got, err := r.stream(ctx)
		var refused *apiError
		switch {
		case ctx.Err() != nil:
			return r.daemon.fault(ctx.Err())
		case err == nil && !r.follow:
			return nil
		case errors.Is(err, errShow), errors.As(err, &refused) && refused.status < 500, err != nil && (first && !got || !r.follow):
			return err
		case err == nil: // the daemon ended it, as when it is restarted
			err = errors.New("the daemon ended the stream of events")
		}
		if got {
			pause = 100 * time.Millisecond
		}
		r.broken(err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-ctx.Done():
		}
	}
}

// stream reads one connection to its end, and says whether it brought any event.
func (r *eventReader) stream(ctx context.Context) (got bool, err error) {
	query := url.Values{"follow": {strconv.FormatBool(r.follow)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.daemon.endpoint("event")+"?"+query.Encode(), nil)
	if err != nil {
		return false, fmt.Errorf("ask for events: %w", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if r.last != nil {
		req.Header.Set("Last-Event-ID", strconv.FormatInt(*r.last, 10))
	}
	resp, err := r.daemon.http.Do(req)
	if err != nil {
		return false, r.daemon.fault(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		e := &apiError{status: resp.StatusCode}
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxEvent)).Decode(&e.payload) // without a body the status says it
		return false, e
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEvent)
	var data strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "data:"); ok {
			data.WriteString(strings.TrimPrefix(text, " ") + "\n")
			continue
		}
		if line != "" || data.Len() == 0 {
			continue // a comment that keeps the line open, or what data says too
		}
		if err := r.take(data.String()); err != nil {
			return got, err
		}
		got = true
		data.Reset()
	}
	if err := lines.Err(); err != nil {
		return got, r.daemon.fault(err)
	}
	return got, nil
}

func (r *eventReader) take(text string) error {
	var e models.Event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return fmt.Errorf("%w: %w", errShow, err)
	}
	if e.ID != 0 {
		r.last = &e.ID
	}
	if err := r.show(&e); err != nil {
		return fmt.Errorf("%w: %w", errShow, err)
	}
	return nil
}
