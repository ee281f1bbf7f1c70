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

// block is how many numbers are reserved on disk at a time. After a crash the rest of a block is skipped: a number is never given twice.
const block = 128

// sequence gives numbers to objects and bounds those of events.
type sequence struct {
	mu   sync.Mutex
	dir  rundir.Dir
	kept sequenceFile // what is on disk: no number above these was given
	id   int64        // the last given
}

// sequenceFile is the content of rundir.Dir.Sequence.
type sequenceFile struct {
	Boot  string `json:"boot"`  // boot id of the kernel that the records belong to
	ID    int64  `json:"id"`    // no object has a greater number
	Event int64  `json:"event"` // no event has a greater number
}

func openSequence(dir rundir.Dir, boot string) (*sequence, error) {
	s := &sequence{dir: dir}
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
	s.id = s.kept.ID
	return s, nil
}

// take gives n new numbers in a row and returns the first.
func (s *sequence) take(ctx context.Context, n int) (ID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.id + 1
	if last := s.id + int64(n); last > s.kept.ID {
		kept := s.kept
		kept.ID = last + block
		if err := s.write(ctx, kept); err != nil {
			return 0, err
		}
	}
	s.id += int64(n)
	return ID(first), nil
}

// reserveEvent makes sure that an event's number is not given again. An event is not worth failing for: when the disk is full, numbers
// may be given twice after a crash, and readers then see old numbers as new events.
func (s *sequence) reserveEvent(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id <= s.kept.Event {
		return
	}
	kept := s.kept
	kept.Event = id + 8*block
	_ = s.write(context.Background(), kept)
}

// close keeps the numbers exactly, so that an orderly restart leaves no gap.
func (s *sequence) close(event int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.write(context.Background(), sequenceFile{Boot: s.kept.Boot, ID: s.id, Event: event})
}

func (s *sequence) write(ctx context.Context, kept sequenceFile) error {
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(ctx, s.dir.Sequence(), data, 0o600); err != nil {
		return fmt.Errorf("reserve numbers: %w", err)
	}
	s.kept = kept
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
