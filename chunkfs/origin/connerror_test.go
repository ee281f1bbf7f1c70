package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// A server that says nothing any more is told as what it is, whoever notices first.
func TestSilenceIsATimeout(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, fmt.Errorf("read: %w", context.DeadlineExceeded), errors.New("http2: client connection lost")} {
		if f := connError(&site{}, err); f.kind != fault.Timeout {
			t.Errorf("%v is of kind %s", err, f.kind)
		}
	}
	if f := connError(&site{}, io.ErrUnexpectedEOF); f.kind != fault.Unavailable {
		t.Errorf("a connection that ends is of kind %s", f.kind)
	}
}
