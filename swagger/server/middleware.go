package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	taken  bool // the connection is no longer net/http's
	ended  bool // a stream that ends early is whole all the same
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 || r.status < 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// outer is what every request goes through: it gives it an id, lets it in, answers its error, logs and counts it.
func (s *Server) outer(route string, next handler) http.Handler {
	return http.HandlerFunc(func(hw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &recorder{ResponseWriter: hw}
		id := requestID(r)
		w.Header().Set("X-Request-Id", id)
		var err error
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					s.done(r, w, route, id, start, err)
					panic(v)
				}
				err = s.panicked(id, v)
				if w.status != 0 {
					s.done(r, w, route, id, start, err)
					panic(http.ErrAbortHandler)
				}
				s.fail(w, id, err)
			}
			s.done(r, w, route, id, start, err)
		}()
		if err = admit(r); err == nil {
			err = next(w, &call{Request: r})
		}
		if err != nil && gone(r, err) && w.status == 0 {
			w.status = statusGone
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			s.fail(w, id, err)
		}
	})
}

// statusGone is what the log says of a request whose client has gone; nobody is left to be answered.
const statusGone = 499

// gone reports whether the request failed because its client has gone.
func gone(r *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) && r.Context().Err() != nil
}

// turn runs a request when there is room for it.
func (s *Server) turn(ctx context.Context, cl class, next func() error) error {
	b := s.budgets[cl]
	if err := b.take(ctx); err != nil {
		return err
	}
	defer b.give()
	defer s.metrics.running(cl)()
	return next()
}

// panicked logs the stack and gives the error to answer.
func (s *Server) panicked(id string, v any) error {
	s.log.WithFields(logrus.Fields{"req": id, "panic": v, "stack": string(debug.Stack())}).Error("a request panicked; the daemon goes on")
	return fault.New(fault.Internal, "internal error: the daemon's log tells more under request %s", id)
}

// recovered is the last resort for a panic outside of outer, in the router.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of the answer before on this connection
		defer func() {
			if v := recover(); v != nil {
				if v != http.ErrAbortHandler {
					s.panicked("", v)
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// done logs and counts one request. Queries and bodies are not logged: they may hold what is nobody's business.
func (s *Server) done(r *http.Request, w *recorder, route, id string, start time.Time, err error) {
	took := time.Since(start)
	s.metrics.request(route, r.Method, w.status, took)
	entry := s.log.WithFields(logrus.Fields{
		"req": id, "method": printable(r.Method), "path": printable(r.URL.Path), "status": w.status,
		"dur_ms": float64(took.Microseconds()) / 1000, "peer": peerName(r),
	})
	level := logrus.InfoLevel
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		level = logrus.DebugLevel
	}
	if err != nil {
		entry = entry.WithField("err", err.Error())
	}
	if w.status == http.StatusInternalServerError {
		level = logrus.ErrorLevel
	}
	entry.Log(level, "request")
}

// requestID takes over a client's own when it is a plain word.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c)
	}
	if id != "" && len(id) <= 64 && strings.IndexFunc(id, func(c rune) bool { return !plain(c) }) < 0 {
		return id
	}
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// quiet takes what net/http says of single connections, which is no operator's business.
func quiet(l *logrus.Logger) *log.Logger { return log.New(debugWriter{l}, "", 0) }

type debugWriter struct{ log *logrus.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug("http: " + printable(strings.TrimSpace(string(p))))
	return len(p), nil
}

var _ io.Writer = debugWriter{}
