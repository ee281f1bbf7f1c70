package main

import (
	"fmt"
	"slices"
	"time"
)

// contestant does the same job as another in one way. once does it, and says how long what counts took: one time, or, for a job that is
// measured at several points, one for each.
type contestant struct {
	name string
	once func() ([]time.Duration, error)
}

// lap is the answer of a contestant that is measured at one point.
func lap(d time.Duration, err error) ([]time.Duration, error) { return []time.Duration{d}, err }

// spread is what is told of many samples: the median, and between what the middle half of them lies.
type spread struct{ low, median, high time.Duration }

func spreadOf(samples []time.Duration) spread {
	return spread{percentile(samples, 25), percentile(samples, 50), percentile(samples, 75)}
}

// String is the spread in Markdown.
func (s spread) String() string {
	if s.low == s.high {
		return fmt.Sprintf("%.2f ms", ms(s.median))
	}
	return fmt.Sprintf("%.2f ms (%.2f–%.2f)", ms(s.median), ms(s.low), ms(s.high))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// row is one line of the table.
type row struct {
	what, against string
	ours, other   spread
	target        string
	n             int
}

// String is the row in Markdown.
func (r row) String() string {
	if r.other.median == 0 {
		return fmt.Sprintf("| %s | %s | %s | not measured | | %s | %d |", r.what, r.ours, r.against, r.target, r.n)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f | %s | %d |",
		r.what, r.ours, r.against, r.other, float64(r.ours.median)/float64(r.other.median), r.target, r.n)
}

// warmups fill the page cache and whatever else is slow once.
const warmups = 3

// race runs the contestants in turns and gives the spread of each at each point that it is measured at. Who begins changes from round to
// round: the first finds what the last left behind. One that fails is named in the error and left out; it is 0 then.
func race(rounds, points int, cs ...contestant) ([][]spread, error) {
	samples := make([][][]time.Duration, len(cs))
	errs := make([]error, len(cs))
	for i := range cs {
		samples[i] = make([][]time.Duration, points)
	}
	for n := range rounds + warmups {
		for k := range cs {
			i := (n + k) % len(cs)
			if errs[i] != nil {
				continue
			}
			laps, err := cs[i].once()
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", cs[i].name, err)
				continue
			}
			for p, d := range laps {
				if n >= warmups {
					samples[i][p] = append(samples[i][p], d)
				}
			}
		}
	}
	all := make([][]spread, len(cs))
	var first error
	for i := range cs {
		all[i] = make([]spread, points)
		for p := range points {
			if errs[i] == nil {
				all[i][p] = spreadOf(samples[i][p])
			}
		}
		if first == nil {
			first = errs[i]
		}
	}
	return all, first
}

// percentile sorts what it is given.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}
