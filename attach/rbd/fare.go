package rbd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const (
	// stuckAfter is how long nothing may come back before a device is called stuck: a slow cluster is not a dead one.
	stuckAfter = 5 * time.Second
	// refreshEvery is how often it is looked at most.
	refreshEvery = 500 * time.Millisecond
)

// sample is how far a device has come at a moment.
type sample struct {
	completed uint64 // requests since it was mapped
	inFlight  uint64
	since     time.Time // it has completed nothing since then, with requests in flight
}

// fare is how an attachment's device fares.
type fare struct {
	number int64
	holder holder
	sample sample
}

// fares is what Observe tells.
type fares struct {
	looking sync.Mutex // held by who looks at the devices
	at      time.Time  // when somebody did last; guarded by looking

	mu      sync.Mutex // held for a moment
	of      map[attach.ID]fare
	samples map[int64]sample // by the number of the device
}

// Refresh looks at the devices of ids. It reads counters of the kernel, which waits for no cluster.
func (d *Driver) Refresh(_ context.Context, ids []attach.ID) {
	f := &d.fares
	if !f.looking.TryLock() {
		return // somebody does just that
	}
	defer f.looking.Unlock()
	now := time.Now()
	if now.Sub(f.at) < refreshEvery {
		return
	}
	f.at = now
	all, err := d.mapped()
	if err != nil {
		return
	}
	f.mu.Lock()
	last := f.samples
	f.mu.Unlock()
	samples, of := map[int64]sample{}, map[attach.ID]fare{}
	for _, m := range all {
		s, ok := d.sample(m.number, now)
		if !ok {
			continue
		}
		samples[m.number] = s.after(last[m.number])
		for _, id := range ids {
			dir := d.dir(m.mark.key)
			if _, err := os.Lstat(holderFile(dir, id)); err == nil {
				of[id] = fare{m.number, readHolder(dir, id), samples[m.number]}
			}
		}
	}
	f.mu.Lock()
	f.samples, f.of = samples, of
	f.mu.Unlock()
}

// after is the sample with what was known before it: nothing completed in between means that the same requests wait.
func (s sample) after(last sample) sample {
	if s.inFlight > 0 && last.inFlight > 0 && s.completed == last.completed {
		s.since = last.since
	}
	return s
}

// sample reads the counters of a device (Documentation/block/stat.rst); false when it has gone.
func (d *Driver) sample(number int64, now time.Time) (sample, bool) {
	b, err := os.ReadFile(filepath.Join(d.block(number), "stat"))
	if err != nil {
		return sample{}, false
	}
	return parseStat(string(b), now)
}

func parseStat(text string, now time.Time) (sample, bool) {
	fields := strings.Fields(text)
	s := sample{since: now}
	for _, at := range []int{0, 4, 11, 15} { // reads, writes, discards, flushes: the last two came later
		if at >= len(fields) {
			break
		}
		n, err := strconv.ParseUint(fields[at], 10, 64)
		if err != nil {
			return sample{}, false
		}
		s.completed += n
	}
	if len(fields) < 9 {
		return sample{}, false
	}
	n, err := strconv.ParseUint(fields[8], 10, 64)
	s.inFlight = n
	return s, err == nil
}

// Observe tells the number of the device, and whether its cluster answers.
func (d *Driver) Observe(id attach.ID, a *models.Attach) {
	d.fares.mu.Lock()
	f, ok := d.fares.of[id]
	d.fares.mu.Unlock()
	if !ok {
		return
	}
	if a.Rbd != nil {
		part := *a.Rbd
		part.DeviceID = f.number
		a.Rbd = &part
	}
	if text := f.trouble(time.Now()); text != "" && a.Error == "" {
		a.Error = text
	}
}

// trouble is empty when all is well.
func (f fare) trouble(now time.Time) string {
	waited := now.Sub(f.sample.since)
	if f.sample.inFlight == 0 || waited < stuckAfter {
		return ""
	}
	requests, have := "requests", "have"
	if f.sample.inFlight == 1 {
		requests, have = "request", "has"
	}
	return fmt.Sprintf("stuck: %d %s to %s %s waited for %s: the cluster at %s does not answer; %s",
		f.sample.inFlight, requests, f.holder.name(), have, waited.Round(time.Second), strings.Join(f.holder.Monitors, ", "), outstanding(f.holder))
}
