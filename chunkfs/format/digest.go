package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/zeebo/blake3"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Algorithm is a digest algorithm. The zero value is none.
type Algorithm uint8

// The algorithms.
const (
	BLAKE3 Algorithm = 1
	SHA256 Algorithm = 2
)

// Sum is the 32 bytes of a digest of either algorithm.
type Sum [32]byte

// Digest names content: `blake3:` or `sha256:` and 64 lower-case hexadecimal digits.
type Digest struct {
	Algorithm Algorithm
	Sum       Sum
}

// String is the word for the algorithm in digests and paths.
func (a Algorithm) String() string {
	switch a {
	case BLAKE3:
		return "blake3"
	case SHA256:
		return "sha256"
	}
	return fmt.Sprintf("Algorithm(%d)", uint8(a))
}

// Valid says that the algorithm is one of those above.
func (a Algorithm) Valid() bool { return a == BLAKE3 || a == SHA256 }

// MarshalText gives the word; an unknown algorithm is an error.
func (a Algorithm) MarshalText() ([]byte, error) {
	if !a.Valid() {
		return nil, fault.New(fault.Invalid, "digest algorithm %d is not known", uint8(a))
	}
	return []byte(a.String()), nil
}

// UnmarshalText takes the word.
func (a *Algorithm) UnmarshalText(b []byte) error {
	for _, known := range []Algorithm{BLAKE3, SHA256} {
		if string(b) == known.String() {
			*a = known
			return nil
		}
	}
	return fault.New(fault.Invalid, "digest algorithm %.20q is not known; there are blake3 and sha256", b)
}

// Sum is the digest of b, without the algorithm. The algorithm must be Valid.
func (a Algorithm) Sum(b []byte) Sum {
	if a == SHA256 {
		return sha256.Sum256(b)
	}
	return blake3.Sum256(b)
}

// Of is the digest of b. The algorithm must be Valid.
func (a Algorithm) Of(b []byte) Digest { return Digest{Algorithm: a, Sum: a.Sum(b)} }

// Hash begins a digest of a stream. The algorithm must be Valid.
func (a Algorithm) Hash() hash.Hash {
	if a == SHA256 {
		return sha256.New()
	}
	return blake3.New()
}

// DigestOf ends a digest that Hash began.
func (a Algorithm) DigestOf(h hash.Hash) Digest {
	d := Digest{Algorithm: a}
	h.Sum(d.Sum[:0])
	return d
}

// String is the sum in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText gives 64 lower-case hexadecimal digits.
func (s Sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText takes 64 lower-case hexadecimal digits and nothing else, so that there is one way to write a sum.
func (s *Sum) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(s)) || bytes.ContainsAny(b, "ABCDEF") {
		return fault.New(fault.Invalid, "digest %.80q is not 64 lower-case hexadecimal digits", b)
	}
	var sum Sum
	if _, err := hex.Decode(sum[:], b); err != nil {
		return fault.New(fault.Invalid, "digest %.80q is not 64 lower-case hexadecimal digits", b)
	}
	*s = sum
	return nil
}

// String is the digest as people and manifests write it.
func (d Digest) String() string { return d.Algorithm.String() + ":" + d.Sum.String() }

// IsZero says that there is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText gives what ParseDigest takes; a digest of no known algorithm is an error.
func (d Digest) MarshalText() ([]byte, error) {
	if _, err := d.Algorithm.MarshalText(); err != nil {
		return nil, err
	}
	return []byte(d.String()), nil
}

// UnmarshalText takes what MarshalText gives.
func (d *Digest) UnmarshalText(b []byte) error {
	parsed, err := ParseDigest(string(b))
	if err == nil {
		*d = parsed
	}
	return err
}

// ParseDigest takes a digest as String writes it. The error is of kind Invalid.
func ParseDigest(s string) (Digest, error) {
	word, digits, found := strings.Cut(s, ":")
	if !found {
		return Digest{}, fault.New(fault.Invalid, "digest %.80q does not begin with its algorithm, as in blake3:", s)
	}
	var d Digest
	if err := d.Algorithm.UnmarshalText([]byte(word)); err != nil {
		return Digest{}, err
	}
	if err := d.Sum.UnmarshalText([]byte(digits)); err != nil {
		return Digest{}, err
	}
	return d, nil
}
