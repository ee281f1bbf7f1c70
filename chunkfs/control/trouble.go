package control

import (
	"context"
	"errors"
	"net/http"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Trouble is an error on the wire: the body of every answer with a status of 400 and above.
type Trouble struct {
	Kind    fault.Kind `json:"kind"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

// TroubleOf makes what is sent of an error, and the status that goes with it. No secret may be in the error.
func TroubleOf(err error) (t Trouble, status int) {
	t = Trouble{Kind: fault.KindOf(err), Message: err.Error(), Hint: fault.HintOf(err)}
	if errors.Is(err, context.Canceled) && t.Kind == fault.Internal {
		t.Kind = fault.Unavailable // it was given up, by the one who asked or because the server ends
	}
	return t, statusOf(t.Kind)
}

// Err is the error that the server had, with its kind and hint.
func (t Trouble) Err() error {
	if t.Kind == "" {
		t.Kind = fault.Internal
	}
	err := fault.New(t.Kind, "%s", t.Message)
	if t.Hint == "" {
		return err
	}
	return fault.Hintf(err, "%s", t.Hint)
}

func statusOf(kind fault.Kind) int {
	switch kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.Busy, fault.BadState:
		return http.StatusConflict
	case fault.Corrupt:
		return http.StatusUnprocessableEntity
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Backend:
		return http.StatusBadGateway
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Timeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
