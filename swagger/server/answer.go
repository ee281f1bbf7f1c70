package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/swagger/server/contract"
)

// statuses is the one place where a kind becomes a status.
var statuses = map[fault.Kind]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Exists:          http.StatusConflict,
	fault.Busy:            http.StatusConflict,
	fault.BadState:        http.StatusConflict,
	fault.TooLarge:        http.StatusRequestEntityTooLarge,
	fault.Corrupt:         http.StatusUnprocessableEntity,
	fault.Throttled:       http.StatusTooManyRequests,
	fault.Internal:        http.StatusInternalServerError,
	fault.Unsupported:     http.StatusNotImplemented,
	fault.Backend:         http.StatusBadGateway,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Timeout:         http.StatusGatewayTimeout,
}

// statusError is for what only HTTP knows: a wrong method, a wrong media type, a slow body.
type statusError struct {
	status  int
	kind    fault.Kind
	message string
}

func (e *statusError) Error() string { return e.message }

// errorOf turns any error into a status and the error object of the contract.
func errorOf(err error, requestID string) (int, *models.Error) {
	message := err.Error()
	if hint := fault.HintOf(err); hint != "" {
		message += ": " + hint
	}
	kind := fault.KindOf(err)
	status, ok := statuses[kind]
	if !ok {
		status, kind = http.StatusInternalServerError, fault.Internal
	}
	code := status
	var violation *contract.Violation
	var special *statusError
	switch {
	case errors.As(err, &violation):
		status, code, kind = http.StatusUnprocessableEntity, violation.Code, fault.Invalid
	case errors.As(err, &special):
		status, code, kind = special.status, special.status, special.kind
	}
	return status, &models.Error{Code: int64(code), Message: &message, Kind: string(kind), RequestID: requestID}
}

// fail answers an error; when the answer has begun it cuts the connection, so that the client does not take half for the whole.
func (s *Server) fail(w *recorder, requestID string, err error) {
	if w.status != 0 {
		if !w.taken && !w.ended {
			panic(http.ErrAbortHandler)
		}
		return
	}
	status, body := errorOf(err, requestID)
	h := w.Header()
	for name := range h {
		if name != "Allow" && name != "X-Request-Id" && name != "Connection" && name != "Content-Range" {
			h.Del(name)
		}
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	s.answer(w, status, body)
}

// answer writes v as JSON.
func (s *Server) answer(w http.ResponseWriter, status int, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	s.untilTaken(w)
	w.WriteHeader(status)
	w.Write(buf.Bytes()) // a client that has gone is no error of ours
	return nil
}

// untilTaken bounds how long a client may take over an answer.
func (s *Server) untilTaken(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.config.AnswerTimeout))
}

// list answers an array, never null.
func list[T any](s *Server, w http.ResponseWriter, objects []T, err error) error {
	if err != nil {
		return err
	}
	if objects == nil {
		objects = []T{}
	}
	return s.answer(w, http.StatusOK, objects)
}

// one answers an object.
func one[T any](s *Server, w http.ResponseWriter, status int, object T, err error) error {
	if err != nil {
		return err
	}
	return s.answer(w, status, object)
}

// printable makes what a client sent fit for a message or a log.
func printable(text string) string {
	const most = 128
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
}
