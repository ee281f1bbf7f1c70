package execstream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFramesComeBackAsTheyWereWritten(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire)
	long := bytes.Repeat([]byte("x"), MaxPayload+10)
	for _, f := range []struct {
		t Type
		p []byte
	}{{Output, []byte("hello")}, {Input, nil}, {ErrorOutput, long}, {End, []byte(`{"exit_code":3}`)}} {
		if err := w.Write(f.t, f.p); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(&wire)
	for _, want := range []struct {
		t Type
		n int
	}{{Output, 5}, {Input, 0}, {ErrorOutput, MaxPayload}, {ErrorOutput, 10}, {End, 15}} {
		typ, p, err := r.Next()
		if err != nil || typ != want.t || len(p) != want.n {
			t.Fatalf("got type %d, %d bytes, %v; want type %d, %d bytes", typ, len(p), err, want.t, want.n)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Fatalf("at the end: %v, want io.EOF", err)
	}
}

func TestALongControlFrameIsRefused(t *testing.T) {
	if err := NewWriter(io.Discard).Write(End, make([]byte, MaxPayload+1)); !errors.Is(err, ErrFrame) {
		t.Fatalf("got %v", err)
	}
}

func TestBadFramesAreErrors(t *testing.T) {
	for name, wire := range map[string]string{
		"unknown type":   "\x09\x00\x00\x00\x00\x00\x00\x00",
		"padding":        "\x00\x01\x00\x00\x00\x00\x00\x00",
		"four gigabytes": "\x00\x00\x00\x00\xff\xff\xff\xff",
		"short header":   "\x00\x00",
		"short payload":  "\x00\x00\x00\x00\x00\x00\x00\x05ab",
	} {
		if _, _, err := NewReader(strings.NewReader(wire)).Next(); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02ab\x03\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := NewReader(bytes.NewReader(wire))
		for {
			_, p, err := r.Next()
			if err != nil {
				return
			}
			if len(p) > MaxPayload {
				t.Fatalf("%d bytes", len(p))
			}
		}
	})
}
