package origin

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// accept checks that an answer is what was asked for, to the byte, before anything of its body is read.
func accept(w want, resp *http.Response, body *stream, s *site) (*content, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, nonsense(resp, fmt.Sprintf("with Content-Encoding %s, though asked for none", s.secrets.quote(e)))
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent && !w.whole:
		return acceptPart(w, resp, body, s)
	case resp.StatusCode == http.StatusOK:
		return acceptWhole(w, resp, body, s)
	}
	return nil, badStatus(w, resp)
}

func acceptPart(w want, resp *http.Response, body *stream, s *site) (*content, error) {
	if strings.HasPrefix(strings.ToLower(resp.Header.Get("Content-Type")), "multipart/") {
		return nil, nonsense(resp, "with several parts, though asked for one")
	}
	ranges := resp.Header.Values("Content-Range")
	if len(ranges) != 1 {
		return nil, nonsense(resp, fmt.Sprintf("with %d Content-Range headers", len(ranges)))
	}
	from, to, size, ok := parseContentRange(ranges[0])
	end := w.to
	if w.size < 0 {
		end = min(end, size)
	}
	switch {
	case !ok:
		return nil, nonsense(resp, "with Content-Range "+s.secrets.quote(ranges[0]))
	case from != w.from || to != end || w.size >= 0 && size != w.size:
		f := nonsense(resp, fmt.Sprintf("with Content-Range %s where bytes %d-%d of %s were asked for", s.secrets.quote(ranges[0]), w.from, end-1, sizeText(w.size)))
		f.size = w.size >= 0 && size != w.size
		return nil, f
	case resp.ContentLength >= 0 && resp.ContentLength != end-w.from:
		return nil, nonsense(resp, fmt.Sprintf("with %d bytes in the place of %d", resp.ContentLength, end-w.from))
	}
	s.ranges(true)
	return body.content(0, end-w.from, size, w.from == 0 && end == size), nil
}

// acceptWhole takes a whole file from a server that knows no ranges, when it has the length that it must have.
func acceptWhole(w want, resp *http.Response, body *stream, s *site) (*content, error) {
	length := resp.ContentLength
	if w.size < 0 {
		return body.content(0, length, length, true), nil
	}
	if length != w.size {
		f := nonsense(resp, fmt.Sprintf("of type %s with %s bytes where a file of %d was asked for",
			s.secrets.quote(resp.Header.Get("Content-Type")), sizeText(length), w.size))
		f.size = true
		return nil, f
	}
	if !w.whole {
		s.ranges(false)
	}
	return body.content(w.from, w.to-w.from, length, false), nil
}

// parseContentRange reads `bytes FROM-LAST/SIZE`, nothing else, and gives the end, which is LAST+1.
func parseContentRange(h string) (from, end, size int64, ok bool) {
	rest, ok1 := strings.CutPrefix(h, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok1 || !ok2 || !ok3 {
		return 0, 0, 0, false
	}
	var n [3]int64
	for i, s := range []string{first, last, total} {
		v, err := strconv.ParseUint(s, 10, 62)
		if err != nil {
			return 0, 0, 0, false
		}
		n[i] = int64(v)
	}
	return n[0], n[1] + 1, n[2], n[0] <= n[1] && n[1] < n[2]
}

func sizeText(n int64) string {
	if n < 0 {
		return "an unknown number of"
	}
	return strconv.FormatInt(n, 10)
}

func nonsense(resp *http.Response, how string) *failure {
	return failed(bad, fault.Backend, "the server answers %s %s", statusText(resp.StatusCode), how).hinted(hintStore)
}

func statusText(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// badStatus says what an answer means that is not the file.
func badStatus(w want, resp *http.Response) *failure {
	code := resp.StatusCode
	text := "the server answers " + statusText(code)
	switch {
	case code == http.StatusNotFound || code == http.StatusGone:
		return failed(missing, fault.NotFound, "%s for %s", text, w.path)
	case code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusProxyAuthRequired:
		return failed(refused, fault.Backend, "%s", text).hinted(hintAuth)
	case code == http.StatusNotImplemented || code == http.StatusHTTPVersionNotSupported:
		return failed(refused, fault.Backend, "%s", text).hinted(hintStore)
	case code >= 500 || code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code == http.StatusTooEarly:
		f := failed(again, fault.Backend, "%s", text).hinted(hintSlow)
		f.after = retryAfter(resp)
		return f
	}
	return failed(bad, fault.Backend, "%s", text).hinted(hintStore)
}

// maxRetryAfter keeps a huge number from overflowing; what is waited is bounded by Timing.
const maxRetryAfter = time.Hour

// retryAfter reads how long a server asks us to wait, in seconds or as a date.
func retryAfter(resp *http.Response) time.Duration {
	h := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(h, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(h); err == nil {
		return max(0, min(time.Until(at), maxRetryAfter))
	}
	return 0
}

// content is n bytes of the body after skip, or all of it when n is negative.
func (s *stream) content(skip, n, size int64, all bool) *content {
	c := &content{finish: s.finish, close: s.drop, size: size, all: all}
	s.skip, s.left = skip, n
	c.Reader = s
	return c
}

var _ io.Reader = (*stream)(nil)
