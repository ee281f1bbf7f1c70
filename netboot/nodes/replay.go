package nodes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// remember keeps a line of what was seen until Flush. The caller holds mu.
func (r *Registry) remember(s Seen, now time.Time) {
	if !r.keeping {
		return
	}
	r.seq++
	line, err := json.Marshal(seenLine{Seq: r.seq, When: now.UnixNano(), Seen: s})
	if err != nil {
		return // a time that JSON cannot write: it is shown all the same
	}
	r.pending = append(append(r.pending, line...), '\n')
}

// replay sees again what an earlier server saw since it last wrote all. The last line may be half of one.
func (r *Registry) replay(path string) error {
	data, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("%s is left out: %w", path, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bad := 0
	for line := range bytes.Lines(data[:bytes.LastIndexByte(data, '\n')+1]) {
		var l seenLine
		if err := json.Unmarshal(line, &l); err != nil {
			bad++
			continue
		}
		if hw, err := net.ParseMAC(l.Seen.MAC); l.Seen.MAC != "" && (err != nil || hw.String() != l.Seen.MAC) {
			bad++
			continue
		}
		if l.Seq > r.seq {
			r.seq = l.Seq
			r.see(l.Seen, time.Unix(0, l.When).UTC())
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s: %d lines are damaged and left out", path, bad)
	}
	return nil
}
