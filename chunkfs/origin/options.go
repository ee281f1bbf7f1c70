package origin

import (
	"time"

	"github.com/sirupsen/logrus"
)

// Options say how a Set behaves. The zero value is usable.
type Options struct {
	UserAgent string         // "windlass" when empty
	Bandwidth int64          // bytes a second of Background, all origins together; 0 is no cap
	Log       *logrus.Logger // told when an origin fails or comes back; nil: nobody is
	Timing    Timing
	Limits    Limits
}

// Timing bounds the parts of a request. The whole of a fetch is bounded by its context alone. Zero fields get defaults.
type Timing struct {
	Connect time.Duration // to reach the server, and again for the TLS handshake; 5 s
	Header  time.Duration // until the answer begins; 10 s
	Stall   time.Duration // in which at least Limits.Progress bytes must come; 10 s
	// Hedge is the least time without progress after which a second request is made, to another origin where there is one; 100 ms. An
	// origin that is slow as a rule is given three times what all but its slowest 5 % take.
	Hedge time.Duration
	Pause time.Duration // before all origins are tried again; doubles, with full jitter; 50 ms
	// Longest bounds Pause, and how long a server may make us wait, for what is in Demand: a reader goes on within this time when an
	// origin is back; 500 ms. What nobody waits for waits up to ten times as long.
	Longest time.Duration
	Retire  time.Duration // the longest that a failing origin is passed over where there are others; 30 s
}

// Limits bound what a Set takes at once. Zero fields get defaults.
type Limits struct {
	Demand     int   // fetches of this class at work; 32
	ReadAhead  int   // 8
	Background int   // 2
	Idle       int   // connections kept open without a request, each origin; 8
	Progress   int64 // bytes that count as progress; 16 KiB
}

func (t Timing) withDefaults() Timing {
	def(&t.Connect, 5*time.Second)
	def(&t.Header, 10*time.Second)
	def(&t.Stall, 10*time.Second)
	def(&t.Hedge, 100*time.Millisecond)
	def(&t.Pause, 50*time.Millisecond)
	def(&t.Longest, 500*time.Millisecond)
	def(&t.Retire, 30*time.Second)
	return t
}

func (l Limits) withDefaults() Limits {
	def(&l.Demand, 32)
	def(&l.ReadAhead, 8)
	def(&l.Background, 2)
	def(&l.Idle, 8)
	def(&l.Progress, 16<<10)
	return l
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
