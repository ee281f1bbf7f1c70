// Package format is what a chunkfs image looks like in bytes: manifest, index, chunks, traces, and where each lies in a store.
// docs/chunkfs/format.md specifies it. The metadata, which is EROFS, has a package of its own.
//
// Every parser here takes hostile input: it is bounded before it allocates, refuses what it does not know, and is fuzzed.
package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Version is of the format as a whole; a reader refuses every other.
const Version = 1

// Bounds of a manifest's labels.
const (
	maxLabels     = 64
	maxLabelKey   = 128  // bytes
	maxLabelValue = 4096 // bytes
)

// Manifest names what makes up an image. Its canonical bytes have the digest that is the image's name.
type Manifest struct {
	Version   int       `json:"version"`
	Algorithm Algorithm `json:"algorithm"` // of every digest below it
	Metadata  Blob      `json:"metadata"`  // EROFS, without data
	Index     Blob      `json:"index"`
	Device    int64     `json:"device"` // bytes of the data device
	Files     int64     `json:"files"`  // inodes
	Data      int64     `json:"data"`   // plain bytes of regular files, each inode once, holes aside
	Stored    int64     `json:"stored"` // bytes of all its chunks as stored, each once
	// Labels are free words of the builder, such as source=debian:12. Sorted by key when encoded.
	Labels map[string]string `json:"labels,omitempty"`
}

// Encode gives the canonical bytes: JSON without white space, the fields in the order of the type, labels sorted, nothing escaped that
// JSON does not ask for. A manifest that DecodeManifest would refuse is an error of kind Invalid.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fault.New(fault.Invalid, "encoding a manifest: %w", err)
	}
	b, err := m.canonical()
	if err != nil {
		return nil, fault.New(fault.Invalid, "encoding a manifest: %w", err)
	}
	if len(b) > MaxManifest {
		return nil, fault.New(fault.Invalid, "encoding a manifest: %d bytes, more than %d", len(b), MaxManifest)
	}
	return b, nil
}

func (m *Manifest) canonical() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeManifest takes what Encode gives, byte for byte: other versions, unknown fields and bytes that are not canonical are refused, so
// that an image has one name. The errors are of kind Corrupt, and of another version Unsupported.
func DecodeManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fault.New(fault.Corrupt, "manifest has %d bytes, more than %d", len(b), MaxManifest)
	}
	if err := checkVersion(b); err != nil {
		return nil, err
	}
	m := new(Manifest)
	if err := decodeStrictly(b, m); err != nil {
		return nil, fault.New(fault.Corrupt, "manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fault.New(fault.Corrupt, "manifest: %w", err)
	}
	again, err := m.canonical()
	if err != nil {
		return nil, fault.New(fault.Corrupt, "manifest: %w", err)
	}
	if !bytes.Equal(b, again) {
		return nil, fault.New(fault.Corrupt, "manifest is not canonical")
	}
	return m, nil
}

// checkVersion looks at the version alone, so that a manifest of a later version is called that and not broken.
func checkVersion(b []byte) error {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fault.New(fault.Corrupt, "manifest: %w", err)
	}
	if v.Version != Version {
		err := fault.New(fault.Unsupported, "manifest is of version %d of the format, not %d", v.Version, Version)
		return fault.Hintf(err, "the image was built by another version of windlass: build it again, or use that version")
	}
	return nil
}

func decodeStrictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}

func (m *Manifest) check() error {
	switch {
	case m.Version != Version:
		return fault.New(fault.Invalid, "version %d, not %d", m.Version, Version)
	case !m.Algorithm.Valid():
		return fault.New(fault.Invalid, "no digest algorithm")
	case m.Device < 0 || m.Device > MaxDeviceSize || m.Device%BlockSize != 0:
		return fault.New(fault.Invalid, "data device of %d bytes", m.Device)
	case m.Files < 1 || m.Data < 0 || m.Stored < 0:
		return fault.New(fault.Invalid, "counts that cannot be: files %d, data %d, stored %d", m.Files, m.Data, m.Stored)
	}
	if err := m.Metadata.check(m.Algorithm, MaxMetadata); err != nil {
		return fault.New(fault.Invalid, "metadata: %w", err)
	}
	if err := m.Index.check(m.Algorithm, MaxIndex); err != nil {
		return fault.New(fault.Invalid, "index: %w", err)
	}
	return checkLabels(m.Labels)
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fault.New(fault.Invalid, "%d labels, more than %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > maxLabelKey || len(v) > maxLabelValue || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fault.New(fault.Invalid, "label %.20q is not of 1 to %d bytes with a value of up to %d, in UTF-8", k, maxLabelKey, maxLabelValue)
		}
	}
	return nil
}
