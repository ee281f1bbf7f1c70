package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxRetryAfter is how long a server may tell us to wait.
const maxRetryAfter = 30 * time.Second

// retryable is a failure that may not happen again.
type retryable struct {
	err   error
	after time.Duration // as the server asks
}

func (r *retryable) Error() string { return r.err.Error() }
func (r *retryable) Unwrap() error { return r.err }

// failed counts a failure and waits before the next try, or says that there is none.
func (w *web) failed(err error, after time.Duration) error {
	if w.ctx.Err() != nil {
		return ended(w.ctx, w.src, w.tally)
	}
	if w.tally.done-w.last >= enough {
		w.failures = 0
	}
	w.last = w.tally.done
	w.failures++
	if w.failures >= w.client.timing.Tries {
		return w.givenUp(err)
	}
	if err := sleep(w.ctx, w.client.pause(w.failures, after)); err != nil {
		return ended(w.ctx, w.src, w.tally)
	}
	return nil
}

func (w *web) givenUp(err error) error {
	err = fault.New(fault.Backend, "read %s: given up at byte %d after %d tries: %w", w.src, w.tally.done, w.failures, err)
	return fault.Hintf(err, "see whether the server runs, and whether this node reaches it")
}

// pause is what lies between two tries: it doubles, and is between half and one and a half of that, so that a thousand nodes that failed
// together do not come back together.
func (c *Client) pause(failures int, after time.Duration) time.Duration {
	d := c.timing.Pause << min(failures-1, 20)
	if d > c.timing.Longest || d <= 0 {
		d = c.timing.Longest
	}
	d = d/2 + rand.N(d) //nolint:gosec // not a secret
	return max(d, min(after, maxRetryAfter))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// badStatus gives an answer that is not the file a kind, and says whether to try again.
func (w *web) badStatus(r *http.Response) error {
	code := r.StatusCode
	err := fault.New(fault.Backend, "read %s: the server answers %d %s", w.src, code, http.StatusText(code))
	switch {
	case code == http.StatusNotFound || code == http.StatusGone:
		return fault.New(fault.NotFound, "there is no %s: the server answers %d %s", w.src, code, http.StatusText(code))
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fault.Hintf(err, "the server wants other credentials: give them as https://USER:PASSWORD@HOST/PATH, or open the file to this node")
	case code == http.StatusNotImplemented || code == http.StatusHTTPVersionNotSupported:
		return err
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout:
		return &retryable{err: fmt.Errorf("the server answers %d %s", code, http.StatusText(code)), after: retryAfter(r)}
	}
	return err
}

func retryAfter(r *http.Response) time.Duration {
	n, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}

// connError sorts what the transport says of a connection.
func connError(src *Source, err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fault.Hintf(fault.New(fault.Backend, "read %s: %w", src, err),
			"the server's certificate is not trusted: give the daemon the CA that signed it, or use the name that the certificate has")
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return fault.Hintf(fault.New(fault.Backend, "read %s: %w", src, err), "does the server speak http, not https, at this port?")
	}
	return &retryable{err: err}
}
