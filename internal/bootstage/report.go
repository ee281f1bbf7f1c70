package bootstage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Report is what a node POSTs to the URL in windlass.report, as JSON, when it enters a stage or fails in it.
type Report struct {
	// MAC is the address of the interface that the node booted from, such as 52:54:00:12:34:56.
	MAC string `json:"mac"`
	// Stage is one of All.
	Stage Stage `json:"stage"`
	// Time is when, by the node's clock, which may be wrong; the zero time when it has none.
	Time time.Time `json:"time,omitzero"`
	// Message says more, in a line.
	Message string `json:"message,omitempty"`
	// Error says why the stage failed; empty while it goes on.
	Error string `json:"error,omitempty"`
}

// The limits of a report.
const (
	MaxBody = 8 << 10 // bytes of JSON
	MaxText = 1 << 10 // bytes of a message or an error; what is longer is cut
)

// ParseReport reads a report that anybody may have sent. The MAC comes out in lower case with colons; texts come out as one line of
// printable characters.
func ParseReport(body []byte) (Report, error) {
	if len(body) > MaxBody {
		return Report{}, fmt.Errorf("the report has more than %d bytes", MaxBody)
	}
	var r Report
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&r); err != nil {
		return Report{}, fmt.Errorf("the report is not JSON as it should be: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Report{}, fmt.Errorf("something stands behind the report")
	}
	mac, err := net.ParseMAC(r.MAC)
	if err != nil || len(mac) != 6 {
		return Report{}, fmt.Errorf("mac: %q is no Ethernet address", clip(r.MAC, 40))
	}
	if r.Stage.Rank() < 0 {
		return Report{}, fmt.Errorf("stage: %q is none of %v", clip(string(r.Stage), 40), All())
	}
	if y := r.Time.UTC().Year(); !r.Time.IsZero() && (y < 1970 || y > 9998) {
		return Report{}, fmt.Errorf("time: the year %d cannot be", y)
	}
	r.MAC, r.Time, r.Message, r.Error = mac.String(), r.Time.UTC(), clip(r.Message, MaxText), clip(r.Error, MaxText)
	return r, nil
}

// clip makes one printable line of at most max bytes.
func clip(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "")
	}
	return s
}
