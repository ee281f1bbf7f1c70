package login

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Secret is a name and what only its owner and the one who checks it know.
type Secret struct{ User, Secret string }

// String keeps the secret out of logs and errors.
func (s Secret) String() string { return s.User + ":***" }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Auth says who proves himself to whom by CHAP.
type Auth struct {
	CHAP   *Secret // we to the target; nil: not at all
	Mutual *Secret // the target to us; wants CHAP too
}

const (
	// chapOffer is SHA3-256, SHA-1, MD5, SHA-256 (IANA, PPP Authentication Algorithms): a target takes the first that it knows. SHA-256 comes
	// last since stgt takes its number for SHA-1.
	chapOffer    = "8,6,5,7"
	maxChallenge = 1024 // bytes (RFC 7143, 12.1.3)
	challengeLen = 16   // bytes of ours
)

// digest computes an answer to a challenge by the algorithm that the target has chosen.
func digest(algorithm string, id byte, secret string, challenge []byte) ([]byte, error) {
	in := append(append([]byte{id}, secret...), challenge...)
	switch algorithm {
	case "5":
		sum := md5.Sum(in)
		return sum[:], nil
	case "6":
		sum := sha1.Sum(in)
		return sum[:], nil
	case "7":
		sum := sha256.Sum256(in)
		return sum[:], nil
	case "8":
		sum := sha3.Sum256(in)
		return sum[:], nil
	}
	return nil, fault.New(fault.Backend, "the target wants CHAP by the algorithm %.20q, which was not offered", algorithm)
}

// chap is one CHAP exchange on one connection.
type chap struct {
	auth      Auth
	algorithm string
	id        byte   // of our challenge
	challenge []byte // ours, where the target has to prove itself
}

// answer makes our answer to the target's challenge, and our challenge to it.
func (c *chap) answer(t Text) (Text, error) {
	c.algorithm, _ = t.Get("CHAP_A")
	idText, _ := t.Get("CHAP_I")
	id, err := strconv.ParseUint(idText, 0, 8)
	if err != nil {
		return nil, fault.New(fault.Backend, "the target sends a challenge with the identifier %.20q, which is no number up to 255", idText)
	}
	text, _ := t.Get("CHAP_C")
	theirs, err := decodeBinary(text)
	if err != nil || len(theirs) == 0 {
		return nil, fault.New(fault.Backend, "the target sends no challenge that can be read")
	}
	sum, err := digest(c.algorithm, byte(id), c.auth.CHAP.Secret, theirs)
	if err != nil {
		return nil, err
	}
	out := Text{{"CHAP_N", c.auth.CHAP.User}, {"CHAP_R", encodeBinary(sum)}}
	if c.auth.Mutual == nil {
		return out, nil
	}
	own := make([]byte, 1+challengeLen)
	for {
		_, _ = rand.Read(own)
		if c.id, c.challenge = own[0], own[1:]; !bytes.Equal(c.challenge, theirs) {
			break
		}
	}
	return append(out, Pair{"CHAP_I", strconv.Itoa(int(c.id))}, Pair{"CHAP_C", encodeBinary(c.challenge)}), nil
}

// verify checks the target's answer to our challenge. That both secrets differ has been checked: who knows none of them could else have
// us answer our own challenge on another connection.
func (c *chap) verify(t Text) error {
	if c.auth.Mutual == nil {
		return nil
	}
	if _, again := t.Get("CHAP_C"); again {
		return fault.New(fault.Backend, "the target answers our challenge with another challenge")
	}
	name, _ := t.Get("CHAP_N")
	text, ok := t.Get("CHAP_R")
	if !ok {
		err := fault.New(fault.Forbidden, "the target has not proved itself: it leaves our challenge unanswered")
		return fault.Hintf(err, "set up mutual CHAP at the target (an outgoing account), or leave mutual_chap out")
	}
	theirs, err := decodeBinary(text)
	if err != nil {
		return fault.New(fault.Backend, "the target answers our challenge with what cannot be read")
	}
	want, err := digest(c.algorithm, c.id, c.auth.Mutual.Secret, c.challenge)
	if err != nil {
		return err
	}
	if name != c.auth.Mutual.User || subtle.ConstantTimeCompare(theirs, want) != 1 {
		err := fault.New(fault.Forbidden, "the target has not proved itself: its name or its secret is not that of mutual_chap")
		return fault.Hintf(err, "compare user and secret of mutual_chap with the target's outgoing account; if they are right, this is not your target")
	}
	return nil
}

// check refuses what is unsafe or cannot be said in CHAP.
func (a Auth) check() error {
	switch {
	case a.Mutual != nil && a.CHAP == nil:
		return fault.New(fault.Invalid, "mutual_chap is given without chap: the target proves itself only to those who do so too")
	case a.Mutual != nil && a.Mutual.Secret == a.CHAP.Secret:
		return fault.New(fault.Invalid, "chap and mutual_chap have the same secret: whoever listens could use one proof for the other")
	}
	return nil
}

// decodeBinary reads a binary value: 0x and hexadecimal digits, or 0b and base64.
func decodeBinary(s string) ([]byte, error) {
	if len(s) > 2+2*maxChallenge {
		return nil, fmt.Errorf("a binary value of %d characters is too long", len(s))
	}
	var b []byte
	var err error
	switch prefix := strings.ToLower(s[:min(2, len(s))]); prefix {
	case "0x":
		digits := s[2:]
		if len(digits)%2 == 1 {
			digits = "0" + digits
		}
		b, err = hex.DecodeString(digits)
	case "0b":
		b, err = base64.StdEncoding.DecodeString(s[2:])
	default:
		return nil, fmt.Errorf("a binary value that is neither hexadecimal nor base64")
	}
	if err == nil && len(b) > maxChallenge {
		err = fmt.Errorf("a binary value of %d bytes is too long", len(b))
	}
	return b, err
}

func encodeBinary(b []byte) string { return "0x" + hex.EncodeToString(b) }
