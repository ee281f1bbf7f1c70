package main

import (
	"fmt"
	"slices"
	"time"
)

// contestant does the same job as another in one way. once does it, and says how long the part that counts took.
type contestant struct {
	name string
	once func() (time.Duration, error)
}

// row is one line of the table.
type row struct {
	what, against string
	ours, other   time.Duration
	target        string
	n             int
}

// String is the row in Markdown.
func (r row) String() string {
	if r.other == 0 {
		return fmt.Sprintf("| %s | %s | %s | not measured | | %s | %d |", r.what, ms(r.ours), r.against, r.target, r.n)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f | %s | %d |",
		r.what, ms(r.ours), r.against, ms(r.other), float64(r.ours)/float64(r.other), r.target, r.n)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

// warmups fill the page cache and whatever else is slow once.
const warmups = 3

// race runs the contestants in turns and gives the median of each. One that fails is named in the error and left out; it is 0 then.
func race(rounds int, cs ...contestant) ([]time.Duration, error) {
	samples := make([][]time.Duration, len(cs))
	errs := make([]error, len(cs))
	for n := range rounds + warmups {
		for i, c := range cs {
			if errs[i] != nil {
				continue
			}
			d, err := c.once()
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", c.name, err)
				continue
			}
			if n >= warmups {
				samples[i] = append(samples[i], d)
			}
		}
	}
	medians := make([]time.Duration, len(cs))
	for i := range cs {
		if errs[i] == nil {
			medians[i] = percentile(samples[i], 50)
		}
	}
	for _, err := range errs {
		if err != nil {
			return medians, err
		}
	}
	return medians, nil
}

// percentile sorts what it is given.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}
