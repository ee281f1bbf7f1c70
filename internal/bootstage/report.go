package bootstage

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
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
	// State says how the stage is. ParseReport puts in Begun or Failed when the node does not say.
	State State `json:"state,omitempty"`
	// Uptime is how long the node had been up when this happened, in milliseconds; Sent is the same for the moment at which the report is sent,
	// anew for each attempt. From both the server knows when it happened, whatever the node's clock says: see At.
	Uptime int64 `json:"uptime_ms,omitempty"`
	Sent   int64 `json:"sent_ms,omitempty"`
	// Message says more, in a line.
	Message string `json:"message,omitempty"`
	// Error says why the stage failed; empty while it goes on.
	Error string `json:"error,omitempty"`
}

// The limits of a report.
const (
	MaxBody = 8 << 10 // bytes of JSON
	MaxText = 1 << 10 // bytes of a message or an error; what is longer is cut
	// MaxLate is how late a report may come. What claims to be older counts as of when it came.
	MaxLate = 24 * time.Hour
)

// At gives when it happened, from when the report came: nodes tell of their first stages only once they have a network.
func (r Report) At(received time.Time) time.Time {
	late := r.Sent - r.Uptime
	if r.Sent == 0 || late < 0 || late > MaxLate.Milliseconds() {
		return received
	}
	return received.Add(-time.Duration(late) * time.Millisecond)
}

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
	if r.Uptime < 0 || r.Sent < 0 {
		return Report{}, fmt.Errorf("uptime_ms, sent_ms: no node has been up for %d ms", min(r.Uptime, r.Sent))
	}
	if !slices.Contains([]State{"", Begun, Done, Failed}, r.State) {
		return Report{}, fmt.Errorf("state: %q is none of %s, %s, %s", clip(string(r.State), 40), Begun, Done, Failed)
	}
	r.MAC, r.Time, r.Message, r.Error = mac.String(), r.Time.UTC(), clip(r.Message, MaxText), clip(r.Error, MaxText)
	r.settle()
	return r, nil
}

// settle makes state and error say the same.
func (r *Report) settle() {
	switch {
	case r.Error != "":
		r.State = Failed
	case r.State == Failed:
		r.Error = cmp.Or(r.Message, "the node does not say why")
	case r.State == "":
		r.State = Begun
	}
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
