package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxBody bounds a request: the authorities of the origins are the longest in it.
const maxBody = 8 << 20

// api is what the control socket answers; control says what.
func (s *server) api() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, fn func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := inTime(r)
			defer cancel()
			out, err := fn(r.WithContext(ctx))
			reply(w, out, err)
		})
	}
	ofMount := func(pattern string, fn func(m *mount, r *http.Request) (any, error)) {
		answer(pattern, func(r *http.Request) (any, error) {
			m, release, err := s.use(r.Context(), r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			defer release()
			return fn(m, r)
		})
	}
	answer("PUT /v1/mounts/{id}", s.putMount)
	answer("DELETE /v1/mounts/{id}", func(r *http.Request) (any, error) {
		s.revoke(r.URL.Query().Get("order"))
		return nil, s.Close(r.Context(), r.PathValue("id"))
	})
	answer("GET /v1/mounts", func(*http.Request) (any, error) { return s.List(), nil })
	answer("GET /v1/mounts/{id}", func(r *http.Request) (any, error) {
		m, err := s.find(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		return s.stats(m), nil
	})
	ofMount("GET /v1/mounts/{id}/files", func(m *mount, r *http.Request) (any, error) {
		latest, _ := strconv.ParseBool(r.FormValue("latest"))
		return m.fileList(latest)
	})
	ofMount("POST /v1/mounts/{id}/trace", doTrace)
	answer("POST /v1/mounts/{id}/abandon", func(r *http.Request) (any, error) { return nil, s.Abandon(r.PathValue("id")) })
	answer("GET /v1/cache", func(*http.Request) (any, error) {
		return map[string]any{"stats": s.cache.Stats(), "images": s.cache.Images()}, nil
	})
	answer("PUT /v1/exit", s.putExit)
	mux.HandleFunc("GET /v1/hold", s.hold)
	return mux
}

// mostKeptBack is how much of the time is kept back for undoing and answering at most.
const mostKeptBack = 500 * time.Millisecond

// inTime ends the work for a request a little before its client gives up: what goes on then, such as that an origin refuses, is known here
// alone.
func inTime(r *http.Request) (context.Context, context.CancelFunc) {
	limit, err := time.ParseDuration(r.Header.Get(control.TimeoutHeader))
	if err != nil || limit <= 0 {
		return context.WithCancel(r.Context())
	}
	return context.WithTimeout(r.Context(), limit-min(limit/10, mostKeptBack))
}

func (s *server) putMount(r *http.Request) (any, error) {
	o, err := readOpen(r.PathValue("id"), http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	return s.Open(r.Context(), *o)
}

// readOpen reads and checks the body of a request for a mount.
func readOpen(id string, body io.Reader) (*control.Open, error) {
	o := new(control.Open)
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(o); err != nil {
		return nil, fault.New(fault.Invalid, "read what is to be opened: %w", err)
	}
	if o.ID != id {
		return nil, fault.New(fault.Invalid, "id: %.80q in the path and %.80q in the body", id, o.ID)
	}
	return o, checkOpen(o)
}

func doTrace(m *mount, r *http.Request) (any, error) {
	switch do := r.FormValue("do"); do {
	case "start":
		return nil, m.recordTrace()
	case "stop":
		return m.endTrace()
	default:
		return nil, fault.New(fault.Invalid, "do: %.80q is neither start nor stop", do)
	}
}

// putExit ends the server: with restart=true so that the keeper starts it again, as after an update, without anybody noticing; otherwise
// only when there is no mount.
func (s *server) putExit(r *http.Request) (any, error) {
	restart, _ := strconv.ParseBool(r.FormValue("restart"))
	if restart && !s.keeper.Kept() {
		return nil, fault.New(fault.BadState, "the server has no keeper that would start it again")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.seats); n > 0 && !restart {
		return nil, fault.Hintf(fault.New(fault.Busy, "%d mounts are open", n), "close them first")
	}
	s.ending, s.restart = true, restart
	s.wake()
	return nil, nil
}

// use finds a mount for something that takes a while, and keeps it from being closed meanwhile.
func (s *server) use(ctx context.Context, id string) (m *mount, release func(), err error) {
	if _, err := s.find(id); err != nil {
		return nil, nil, err
	}
	t, err := s.enter(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	done := func() { <-t.turn; s.leave(id, t) }
	if t.mount == nil {
		done()
		return nil, nil, fault.New(fault.NotFound, "there is no mount %s", id)
	}
	return t.mount, done, nil
}

// hold counts the caller as a reason to go on, for as long as the connection lasts.
func (s *server) hold(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		reply(w, nil, fault.New(fault.Unavailable, "the chunkfs server is about to end"))
		return
	}
	s.holds++
	s.wake()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.holds--
		s.wake()
		s.mu.Unlock()
	}()
	w.WriteHeader(http.StatusOK)
	if http.NewResponseController(w).Flush() != nil {
		return
	}
	<-r.Context().Done()
}

func reply(w http.ResponseWriter, out any, err error) {
	if err != nil {
		t, status := control.TroubleOf(err)
		writeJSON(w, status, t)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"kind":"internal","message":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // who does not listen any more does not miss it
}

// shutdownTimeout bounds waiting for requests under way when the server ends.
const shutdownTimeout = 2 * time.Second

// answerOn serves the API until stop is called.
func (s *server) answerOn(l *rootListener) (stop func()) {
	ctx, end := context.WithCancel(context.Background())
	srv := &http.Server{Handler: s.api(), ReadHeaderTimeout: 10 * time.Second, BaseContext: l.base(ctx)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.WithError(err).Error("the control socket does not answer any more")
		}
	}()
	return func() {
		end() // holders let go
		wait, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(wait) != nil {
			srv.Close()
		}
		<-done
	}
}
