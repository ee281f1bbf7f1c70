package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// ErrChanged is wrapped by the error of a read when the file is not the one that was begun: what has been read is worth nothing, and the
// caller may begin anew.
var ErrChanged = errors.New("it changed while it was read")

// progressEvery is the least time between two words of progress.
const progressEvery = 200 * time.Millisecond

// tally is what has come so far. The part that makes the connections reads it to go on at the right place.
type tally struct {
	fresh func() hash.Hash // gives one more, of the same kind
	sum   hash.Hash        // of all that was delivered
	done  int64
	total int64 // -1: the server does not say
}

// newTally sums by SHA-256; loose, by something that is many times faster where processors have no instructions for SHA, and good for nothing
// but to tell apart what an honest server sends twice.
func newTally(loose bool) *tally {
	fresh := sha256.New
	if loose {
		seed := maphash.MakeSeed()
		fresh = func() hash.Hash { h := new(maphash.Hash); h.SetSeed(seed); return h }
	}
	return &tally{fresh: fresh, sum: fresh(), total: -1}
}

// Body is a file while it is read. It is used by one goroutine.
type Body struct {
	ctx   context.Context //nolint:containedctx // a Body is one operation, as an http.Response is
	src   *Source
	opts  Options
	from  io.ReadCloser
	tally *tally
	told  time.Time
	err   error // of the last read; it stays
}

// Read gives the next bytes. An error other than io.EOF has a kind, and says what was read from where.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.ctx.Err() != nil { // a file of this node does not notice
		b.err = ended(b.ctx, b.src, b.tally)
		return 0, b.err
	}
	n, err := b.from.Read(p)
	b.tally.sum.Write(p[:n])
	b.tally.done += int64(n)
	if err == nil || errors.Is(err, io.EOF) {
		if over := b.checkLimit(); over != nil {
			err = over
		}
	}
	b.progress(err != nil)
	b.err = err
	return n, err
}

// Err is the error that ended the reading; nil when it has not ended, or ended well. What lies between Body and the one who reads, such
// as a decompressor, may give the error other words.
func (b *Body) Err() error {
	if errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

// Done is how many bytes have come.
func (b *Body) Done() int64 { return b.tally.done }

// Total is how many bytes the file has, as the server says; -1 when it does not.
func (b *Body) Total() int64 { return b.tally.total }

// Close ends the connection.
func (b *Body) Close() error { return b.from.Close() }

// Verify reads to the end what has not been read and compares the digest of the whole, "sha256:" and 64 hex digits, with want. An empty
// want is not compared. A difference is of kind Corrupt and names both. With Options.Loose there is no digest: a want is refused.
func (b *Body) Verify(want string) error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return err
	}
	if b.opts.Loose {
		if want != "" {
			return fault.New(fault.Internal, "%s was read without a digest, and cannot be compared with %s", b.src, want)
		}
		return nil
	}
	got := "sha256:" + hex.EncodeToString(b.tally.sum.Sum(nil))
	if want == "" || want == got {
		return nil
	}
	return fault.Hintf(fault.New(fault.Corrupt, "%s (%d bytes) has the digest %s, not %s as asked", b.src, b.tally.done, got, want),
		"the file was replaced or damaged: publish it again, or ask for the digest that it has now")
}

// SetLimit sets another limit, when it depends on what the file turns out to be. It gives the error of a file that is beyond it already.
func (b *Body) SetLimit(n int64) error {
	b.opts.Limit = n
	return b.checkLimit()
}

func (b *Body) checkLimit() error {
	size, limit := max(b.tally.done, b.tally.total), b.opts.Limit
	if limit <= 0 || size <= limit {
		return nil
	}
	if b.tally.total < 0 {
		return fault.New(fault.TooLarge, "%s goes on after %d bytes, which is the limit", b.src, limit)
	}
	return fault.New(fault.TooLarge, "%s has %d bytes; the limit is %d", b.src, size, limit)
}

func (b *Body) progress(last bool) {
	if b.opts.Progress == nil || (!last && time.Since(b.told) < progressEvery) {
		return
	}
	b.told = time.Now()
	b.opts.Progress(b.tally.done, max(b.tally.total, 0))
}

func changed(src *Source, how string) error {
	return fault.Hintf(fault.New(fault.Backend, "read %s: %w: %s", src, ErrChanged, how), "try again when the file is at rest")
}

func ended(ctx context.Context, src *Source, t *tally) error {
	err := fmt.Errorf("read %s: stopped after %d bytes: %w", src, t.done, context.Cause(ctx))
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Hintf(fault.New(fault.Timeout, "%w", err), "the server or the way to it is too slow for the time given")
	}
	return err
}
