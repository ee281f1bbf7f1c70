package image

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"aead.dev/minisign"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
)

const (
	signatureEnd  = ".minisig"
	mostSignature = 8 << 10 // bytes; a signature has 300
	longestSaid   = 200     // bytes of a comment that are told
)

// signed checks that one of the keys has signed data, the file at fileURL, and gives what the signature says beside: the comment that is signed,
// too. Without keys there is nothing to check. A signature that is not right is of kind Corrupt.
func signed(ctx context.Context, c *fetch.Client, field, fileURL string, data []byte, p Proof) (comment string, err error) {
	if len(p.Keys) == 0 {
		return "", nil
	}
	at := p.Signature
	if at == "" {
		at = beside(fileURL)
	}
	src, err := fetch.Parse(field+".signature", at)
	if err != nil {
		return "", err
	}
	text, err := read(ctx, c, src, fetch.Options{Limit: mostSignature})
	if fault.Is(err, fault.NotFound) {
		return "", fault.Hintf(fmt.Errorf("%s.key asks for a signature: %w", field, err), "`minisign -Sm FILE` makes FILE%s, which belongs beside it", signatureEnd)
	}
	if err != nil {
		return "", fmt.Errorf("fetch the signature: %w", err)
	}
	if comment, err = verify(data, text, p.Keys); err != nil {
		return "", fault.Hintf(fmt.Errorf("%s is not taken: %w", Shown(fileURL), err), "who may change it signs it anew with `minisign -Sm FILE`; whose signature counts, %s.key says", field)
	}
	return comment, nil
}

// beside is where the signature of a file lies when nobody says so.
func beside(fileURL string) string {
	u, err := url.Parse(fileURL)
	if err != nil {
		return fileURL // it has been fetched, so this cannot be
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	if u.Path == "" {
		u.Path = "/"
	}
	if u.RawPath != "" {
		u.RawPath += signatureEnd
	}
	u.Path += signatureEnd
	return u.String()
}

func verify(data, text []byte, keys []string) (comment string, err error) {
	defer guard(&err)
	var s minisign.Signature
	if err := s.UnmarshalText(text); err != nil {
		return "", fault.New(fault.Corrupt, "its signature is none of minisign: %w", err)
	}
	var ids []string
	known := false
	for _, k := range keys {
		var key minisign.PublicKey
		if err := key.UnmarshalText([]byte(k)); err != nil {
			return "", fault.New(fault.Invalid, "the key cannot be read: %w", err) // the command line was checked before
		}
		if minisign.Verify(key, data, text) {
			return said(s.TrustedComment), nil
		}
		known = known || key.ID() == s.KeyID
		ids = append(ids, fmt.Sprintf("%016X", key.ID()))
	}
	if known {
		return "", fault.New(fault.Corrupt, "it or its signature was changed since key %016X has signed it", s.KeyID)
	}
	return "", fault.New(fault.Corrupt, "it was signed by key %016X, not by %s", s.KeyID, strings.Join(ids, " or "))
}

// said is a comment, not too long for a console.
func said(comment string) string {
	comment = strings.ToValidUTF8(comment[:min(len(comment), longestSaid)], "?")
	return strings.Join(strings.Fields(comment), " ")
}

// read fetches all.
func read(ctx context.Context, c *fetch.Client, src *fetch.Source, o fetch.Options) ([]byte, error) {
	body, err := c.Open(ctx, src, o)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}
