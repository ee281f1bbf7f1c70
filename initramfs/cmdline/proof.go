package cmdline

import (
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// Proof is what a file must bring to be taken. The zero value asks for nothing.
type Proof struct {
	Digest    string   // "sha256:" and 64 digits
	Keys      []string // public keys of minisign; one of them must have signed it
	Signature string   // URL of the signature; "" is the file's own, without a query, and .minisig
	// Wrong says which word of the command line asks for a proof and is not understood. No file is taken then: to ignore the word would be to
	// take any.
	Wrong string
}

// proofs are the words that ask for a proof of the file that name is the URL of.
func (o *Options) proofs(name string, p *Proof) map[string]func(string) error {
	return map[string]func(string) error{
		name + ".digest": func(v string) error {
			if !isDigest(v) {
				return fmt.Errorf("%.100q is no digest; write sha256: and 64 digits", v)
			}
			p.Digest = v
			return nil
		},
		name + ".key": func(v string) error {
			if !isKey(v) {
				return fmt.Errorf("%.100q is no public key of minisign; write its second line, RW and 54 characters", v)
			}
			p.Keys = append(p.Keys, v)
			return nil
		},
		name + ".signature": func(v string) error {
			if v == "" {
				return errors.New("the URL is missing")
			}
			p.Signature = v
			return nil
		},
	}
}

func isKey(v string) bool {
	var k minisign.PublicKey
	return strings.HasPrefix(v, "RW") && len(v) == 56 && k.UnmarshalText([]byte(v)) == nil
}

// proofsOf gives the proofs that a word is about, or may be about if it were spelled right; none for other words.
func (o *Options) proofsOf(name string) []*Proof {
	switch {
	case name != "config" && strings.HasPrefix(name, "config"):
		return []*Proof{&o.ConfigProof}
	case name != "container" && strings.HasPrefix(name, "container"):
		return []*Proof{&o.ContainerProof}
	}
	for _, what := range []string{"digest", "key", "signature"} {
		if strings.HasSuffix(name, what) {
			return []*Proof{&o.ConfigProof, &o.ContainerProof}
		}
	}
	return nil
}
