package format

import (
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Bounds of a trace.
const (
	MaxTrace       = 16 << 20 // bytes as encoded
	MaxTraceChunks = 1 << 17
	MaxTracePaths  = 1 << 16
	maxTracePath   = 4 * 4096 // bytes, quoted
)

// Trace is what a start of an image read, in order. It is a hint only: what it names and the image does not have is passed over.
type Trace struct {
	Version int      `json:"version"`
	Image   Digest   `json:"image"` // the manifest it was recorded on
	Role    string   `json:"role"`  // such as boot
	Chunks  []Sum    `json:"chunks"`
	Paths   []string `json:"paths"` // of the files, for laying out the next version; see QuotePath
}

// EncodeTrace gives the trace as JSON. A trace that DecodeTrace would refuse is an error of kind Invalid.
func EncodeTrace(t *Trace) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fault.New(fault.Invalid, "encoding a trace: %w", err)
	}
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fault.New(fault.Invalid, "encoding a trace: %w", err)
	}
	if len(b) > MaxTrace {
		return nil, fault.New(fault.Invalid, "encoding a trace: %d bytes, more than %d", len(b), MaxTrace)
	}
	return append(b, '\n'), nil
}

// DecodeTrace takes a trace in JSON. The errors are of kind Corrupt.
func DecodeTrace(b []byte) (*Trace, error) {
	if len(b) > MaxTrace+1 {
		return nil, fault.New(fault.Corrupt, "trace has %d bytes, more than %d", len(b), MaxTrace)
	}
	t := new(Trace)
	if err := decodeStrictly(b, t); err != nil {
		return nil, fault.New(fault.Corrupt, "trace: %w", err)
	}
	if err := t.check(); err != nil {
		return nil, fault.New(fault.Corrupt, "trace: %w", err)
	}
	return t, nil
}

func (t *Trace) check() error {
	switch {
	case t.Version != Version:
		return fault.New(fault.Invalid, "version %d, not %d", t.Version, Version)
	case !t.Image.Algorithm.Valid():
		return fault.New(fault.Invalid, "no image")
	case len(t.Chunks) > MaxTraceChunks || len(t.Paths) > MaxTracePaths:
		return fault.New(fault.Invalid, "%d chunks and %d paths, more than %d and %d", len(t.Chunks), len(t.Paths), MaxTraceChunks, MaxTracePaths)
	}
	for _, quoted := range t.Paths {
		p, err := UnquotePath(quoted)
		if err != nil {
			return err
		}
		if p == "." || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") {
			return fault.New(fault.Invalid, "path %.80q is not clean, or not below the root", quoted)
		}
	}
	return CheckRole(t.Role)
}

// QuotePath writes a path of an image, which may hold any bytes, as the valid UTF-8 that a trace holds: as it is, or quoted as in Go when
// it is not valid or begins with a quote.
func QuotePath(p string) string {
	if utf8.ValidString(p) && !strings.HasPrefix(p, `"`) {
		return p
	}
	return strconv.QuoteToASCII(p)
}

// UnquotePath takes what QuotePath gives. The error is of kind Invalid.
func UnquotePath(s string) (string, error) {
	if len(s) > maxTracePath {
		return "", fault.New(fault.Invalid, "a path has %d bytes, more than %d", len(s), maxTracePath)
	}
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	p, err := strconv.Unquote(s)
	if err != nil {
		return "", fault.New(fault.Invalid, "path %.80q: %w", s, err)
	}
	return p, nil
}
