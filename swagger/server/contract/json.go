package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	// maxDepth is how deep JSON may nest. A chain of maxChain links needs less.
	maxDepth = 256
	// maxValues bounds the memory that a small body can cost: each value takes some hundred bytes once parsed.
	maxValues = 100_000
)

// parse reads one JSON value, strictly: one document, UTF-8, no name twice in an object. Numbers stay json.Number, so that none is
// rounded. An error is of kind Invalid or TooLarge and says where.
func parse(body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, fault.New(fault.Invalid, "the body is empty; send a JSON object")
	}
	if !utf8.Valid(body) {
		return nil, fault.New(fault.Invalid, "the body is not valid JSON: it is not UTF-8")
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(body)), body: body}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := p.dec.Token(); err != io.EOF {
		return nil, p.errorf(fault.Invalid, "the body goes on after the end of its JSON value")
	}
	return v, nil
}

type parser struct {
	dec   *json.Decoder
	body  []byte
	count int
}

func (p *parser) value(depth int) (any, error) {
	tok, err := p.token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if depth++; depth > maxDepth {
		return nil, p.errorf(fault.Invalid, "the body nests deeper than %d levels", maxDepth)
	}
	if delim == '{' {
		return p.object(depth)
	}
	list := []any{}
	for p.dec.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err = p.token()
	return list, err
}

func (p *parser) object(depth int) (any, error) {
	object := map[string]any{}
	for p.dec.More() {
		tok, err := p.token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok {
			return nil, p.errorf(fault.Invalid, "the body is not valid JSON: the name of a field must be a string")
		}
		if _, twice := object[key]; twice {
			return nil, p.errorf(fault.Invalid, "the field %s is there twice in one object", show(key))
		}
		if object[key], err = p.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := p.token()
	return object, err
}

func (p *parser) token() (json.Token, error) {
	if p.count++; p.count > 2*maxValues {
		return nil, p.errorf(fault.TooLarge, "the body has more than %d values", maxValues)
	}
	tok, err := p.dec.Token()
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return tok, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, p.errorf(fault.Invalid, "the body is not valid JSON: it ends in the middle")
	case errors.As(err, &syntax):
		return nil, p.errorf(fault.Invalid, "the body is not valid JSON: %s", syntax.Error())
	}
	return nil, p.errorf(fault.Invalid, "the body is not valid JSON: %w", err)
}

// errorf tells the line and column where the decoder is; columns count bytes.
func (p *parser) errorf(kind fault.Kind, format string, args ...any) error {
	before := p.body[:min(int(p.dec.InputOffset()), len(p.body))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fault.New(kind, "%w (line %d, column %d)", fmt.Errorf(format, args...), line, column)
}

// show quotes a name or value that the caller sent, shortened.
func show(s string) string {
	const most = 64
	if len(s) <= most {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", s[:most])
}
