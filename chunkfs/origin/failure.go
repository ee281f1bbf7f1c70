package origin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/redact"
)

// verdict says what another attempt at the same origin may bring.
type verdict int

const (
	again   verdict = iota // it may well work: broken connections, 5xx, too slow
	bad                    // the answer makes no sense; a few more tries
	refused                // it will not, such as 403 or an untrusted certificate; one more try, for servers behind which there are several
	missing                // 404
	corrupt                // the bytes are not right; one more try, for what happened on the way
)

// strikes are how much of an origin's credit in one fetch a verdict costs. An origin without credit is not asked again in this fetch.
func (v verdict) strikes() int {
	switch v {
	case again:
		return 0
	case bad:
		return 1
	}
	return credit / 2
}

const credit = 4

// failure is why an attempt at one origin did not work. Its text says what the peer answered, without secrets.
type failure struct {
	verdict verdict
	kind    fault.Kind
	text    string
	hint    string
	after   time.Duration // as the server asks; 0: it does not
	size    bool          // it says that the file has another size
}

func (f *failure) Error() string { return f.text }

func failed(v verdict, kind fault.Kind, format string, args ...any) *failure {
	return &failure{verdict: v, kind: kind, text: fmt.Sprintf(format, args...)}
}

func (f *failure) hinted(hint string) *failure {
	f.hint = hint
	return f
}

// fatal ends a fetch: what takes the bytes cannot.
type fatal struct{ err error }

func (f *fatal) Error() string { return f.err.Error() }

// secrets are what must not be in any text: a server may send back what it was sent.
type secrets []string

func (s secrets) scrub(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, redact.Mask)
	}
	return text
}

// quote is what a server sent, for a message. What is secret goes first: cut off, it would not be found any more.
func (s secrets) quote(text string) string { return fmt.Sprintf("%.80q", s.scrub(text)) }

// complaint is the last failure of each origin that had one, in words.
func (r *race) complaint() string {
	var parts []string
	for i, f := range r.failures {
		if f != nil {
			parts = append(parts, r.set.sites[i].name+": "+f.text)
		}
	}
	return strings.Join(parts, "; ")
}

// weightiest is the failure that says most of why there is nothing: damage before bad answers before silence before absence.
func (r *race) weightiest() *failure {
	rank := func(f *failure) int {
		switch f.kind {
		case fault.Corrupt:
			return 5
		case fault.Backend:
			return 4
		case fault.Unavailable:
			return 3
		case fault.Timeout:
			return 2
		}
		return 1
	}
	var most *failure
	for _, f := range r.failures {
		if f != nil && (most == nil || rank(f) > rank(most)) {
			most = f
		}
	}
	return most
}

// exhausted is the error when no origin is worth another attempt.
func (r *race) exhausted() error {
	most := r.weightiest()
	return fault.Hintf(fault.New(most.kind, "%s: %s", r.job.what, r.complaint()), "%s", most.hint)
}

// ended is the error when the time is over: of the kind of what went wrong until then.
func (r *race) ended() error {
	cause := r.ctx.Err()
	if r.set.ctx.Err() != nil {
		return fault.New(fault.Unavailable, "%s: the origins are closed", r.job.what)
	}
	if !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", r.job.what, cause)
	}
	r.blameSilent()
	took := time.Since(r.began).Round(time.Millisecond)
	most := r.weightiest()
	if most == nil {
		return fault.New(fault.Timeout, "%s: not begun after %v: %w", r.job.what, took, cause)
	}
	return fault.Hintf(fault.New(most.kind, "%s: given up after %v: %s: %w", r.job.what, took, r.complaint(), cause), "%s", most.hint)
}

// blameSilent notes for the message who was asked and has not failed yet, and who was passed over.
func (r *race) blameSilent() {
	for i, s := range r.set.sites {
		if r.failures[i] == nil && r.eligible(s) {
			r.failures[i], _ = s.trouble()
		}
	}
	for _, a := range r.live {
		if r.failures[a.site.index] == nil {
			r.failures[a.site.index] = failed(again, fault.Timeout, "no answer, or too slow (%d bytes came)", a.moved.Load()).hinted(hintSlow)
		}
	}
}

const (
	hintSlow  = "see whether the server runs, and whether this node reaches it"
	hintAuth  = "the server wants other credentials: give the origin a user and password, or a token, or open the store to this node"
	hintCert  = "the server's certificate is not trusted: give the origin the CA that signed it, or use the name that the certificate has"
	hintPlain = "does the server speak http, not https, at this port?"
	hintStore = "see whether the URL is that of a store, and whether the server gives its files as they are, whole or by Range"
	hintBytes = "the store at the origin is damaged, or something on the way changes it: run `windlass image check` there"
)
