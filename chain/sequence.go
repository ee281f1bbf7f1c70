package chain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/rundir"
)

// How many numbers are reserved on disk ahead of those given. After a crash the rest is skipped: a number is never given twice.
const (
	idsAhead    = 128
	eventsAhead = 4096
)

// sequence gives numbers to objects and keeps count of those of events. More are reserved in the background before they run out, so
// that neither a request nor an event waits for a disk.
type sequence struct {
	dir  rundir.Dir
	disk sync.Mutex // one writer of the file at a time

	mu    sync.Mutex
	kept  sequenceFile // what is on disk: no number above these was given
	id    int64        // the last given
	event int64
	low   chan struct{} // tells the background that numbers run low
}

// sequenceFile is the content of rundir.Dir.Sequence.
type sequenceFile struct {
	Boot  string `json:"boot"`  // boot id of the kernel that the records belong to
	ID    int64  `json:"id"`    // no object has a greater number
	Event int64  `json:"event"` // no event has a greater number
}

func openSequence(dir rundir.Dir, boot string) (*sequence, error) {
	s := &sequence{dir: dir, low: make(chan struct{}, 1)}
	if err := os.Remove(dir.Sequence() + durable.TempSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) { // a crash left it
		return nil, err
	}
	data, err := os.ReadFile(dir.Sequence())
	if errors.Is(err, fs.ErrNotExist) {
		s.kept.Boot = boot
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the numbers given so far: %w", err)
	}
	if err := json.Unmarshal(data, &s.kept); err != nil {
		return nil, fmt.Errorf("read the numbers given so far: %s: %w", dir.Sequence(), err)
	}
	s.id, s.event = s.kept.ID, s.kept.Event
	return s, nil
}

// take gives n new numbers in a row and returns the first.
func (s *sequence) take(ctx context.Context, n int) (ID, error) {
	for {
		if first, ok := s.takeKept(int64(n)); ok {
			return first, nil
		}
		if err := s.reserve(ctx, int64(n)); err != nil {
			return 0, err
		}
	}
}

// takeKept gives numbers that are reserved; false when they do not suffice.
func (s *sequence) takeKept(n int64) (ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id+n > s.kept.ID {
		return 0, false
	}
	first := s.id + 1
	s.id += n
	if s.kept.ID-s.id < idsAhead/2 {
		s.runLow()
	}
	return ID(first), true
}

// gave says that an event has got the number. Should the disk be too slow, numbers may be given twice after a crash; no event waits.
func (s *sequence) gave(event int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.event = event
	if s.kept.Event-event < eventsAhead/2 {
		s.runLow()
	}
}

func (s *sequence) runLow() {
	select {
	case s.low <- struct{}{}:
	default:
	}
}

// refill reserves numbers whenever they run low, until ctx ends.
func (s *sequence) refill(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.low:
		}
		if err := s.reserve(ctx, 0); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// reserve writes down that at least n more numbers, and those ahead, are given.
func (s *sequence) reserve(ctx context.Context, n int64) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	next := sequenceFile{Boot: s.kept.Boot, ID: max(s.kept.ID, s.id+n+idsAhead), Event: max(s.kept.Event, s.event+eventsAhead)}
	s.mu.Unlock()
	return s.write(ctx, next)
}

// close keeps the numbers exactly, so that an orderly restart leaves no gap.
func (s *sequence) close() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	exact := sequenceFile{Boot: s.kept.Boot, ID: s.id, Event: s.event}
	s.mu.Unlock()
	return s.write(context.Background(), exact)
}

// write replaces the file; disk is held.
func (s *sequence) write(ctx context.Context, kept sequenceFile) error {
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(ctx, s.dir.Sequence(), data, 0o600); err != nil {
		return fmt.Errorf("reserve numbers: %w", err)
	}
	s.mu.Lock()
	s.kept = kept
	s.mu.Unlock()
	return nil
}

// bootID names this boot of the kernel.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
