package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/go-openapi/errors"
	"github.com/go-openapi/validate"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	// maxChain is how many attachments and mounts may lie one in the other.
	maxChain = 64
	// maxProblems is how many problems of one request are told.
	maxProblems = 20
)

// Violation is a request that does not fit the contract.
type Violation struct {
	Code    int // 601 and above, as go-openapi/errors numbers them: that of the first problem
	Message string
}

func (v *Violation) Error() string { return v.Message }

// check goes through a value and its schema together. It gives the value as it is meant: nulls dropped, references cut down to their
// id, defaults filled in, kinds inferred, integers as int64.
type check struct {
	in       string // body, query, path or header: where the value is
	problems []problem
	invalid  []string // what fits the schema and cannot be right all the same
	chain    int
}

type problem struct {
	code int
	text string
}

// err gives all that was found, or nil.
func (c *check) err() error {
	if len(c.problems) == 0 {
		if len(c.invalid) == 0 {
			return nil
		}
		return fault.New(fault.Invalid, "%s", join(c.invalid))
	}
	texts := make([]string, len(c.problems))
	for i, p := range c.problems {
		texts[i] = p.text
	}
	return &Violation{Code: c.problems[0].code, Message: join(texts)}
}

func join(texts []string) string {
	if n := len(texts); n > maxProblems {
		texts = append(slices.Clip(texts[:maxProblems]), fmt.Sprintf("and %d more", n-maxProblems))
	}
	return strings.Join(texts, "; ")
}

func (c *check) add(code int, format string, args ...any) {
	c.problems = append(c.problems, problem{code, fmt.Sprintf(format, args...)})
}

// found takes the answer of a check of go-openapi; more is added to its message.
func (c *check) found(v *errors.Validation, more string) {
	if v != nil {
		c.problems = append(c.problems, problem{int(v.Code()), v.Error() + more})
	}
}

// value checks v, which is not null, against s.
func (c *check) value(s *schema, path string, v any) any {
	switch s.typ {
	case "object":
		if o, ok := v.(map[string]any); ok {
			return c.object(s, path, o)
		}
	case "array":
		if l, ok := v.([]any); ok {
			return c.array(s, path, l)
		}
	case "string":
		if t, ok := v.(string); ok {
			return c.text(s, path, t)
		}
	case "boolean":
		if b, ok := v.(bool); ok {
			return b
		}
	case "integer":
		if n, ok := v.(json.Number); ok {
			return c.integer(s, path, n)
		}
	case "number":
		if n, ok := v.(json.Number); ok {
			return c.number(s, path, n)
		}
	}
	c.wrongType(path, article(s.typ), v)
	return nil
}

// wrongType names the type that was sent, never the value: it may be a secret.
func (c *check) wrongType(path, want string, v any) {
	c.add(errors.InvalidTypeCode, "%s must be %s, not %s", c.where(path), want, typeName(v))
}

func (c *check) where(path string) string {
	if path == "" {
		return "the " + c.in
	}
	return path + " in " + c.in
}

func (c *check) text(s *schema, path, v string) any {
	if strings.ContainsRune(v, 0) {
		c.add(errors.PatternFailCode, "%s must not contain a NUL byte", c.where(path))
		return v
	}
	if s.minLength != nil {
		c.found(validate.MinLength(path, c.in, v, *s.minLength), "")
	}
	if s.maxLen != nil {
		c.found(validate.MaxLength(path, c.in, v, *s.maxLen), "")
	}
	if s.pattern != nil && !s.pattern.MatchString(v) {
		c.found(errors.FailedPattern(path, c.in, s.pattern.String(), nil), "")
	}
	if len(s.enum) > 0 {
		c.found(validate.Enum(path, c.in, v, s.enum), ", not "+show(v))
	}
	return v
}

func (c *check) integer(s *schema, path string, v json.Number) any {
	n, err := strconv.ParseInt(v.String(), 10, 64)
	if err != nil {
		f, ferr := v.Float64()
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			c.add(errors.InvalidTypeCode, "%s must be an integer of at most 64 bits", c.where(path))
			return nil
		}
		n = int64(f)
	}
	if s.minimum != nil {
		c.found(validate.MinimumInt(path, c.in, n, int64(*s.minimum), false), fmt.Sprintf(", not %d", n))
	}
	if s.maximum != nil {
		c.found(validate.MaximumInt(path, c.in, n, int64(*s.maximum), false), fmt.Sprintf(", not %d", n))
	}
	return n
}

func (c *check) number(s *schema, path string, v json.Number) any {
	f, err := v.Float64()
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		c.add(errors.InvalidTypeCode, "%s must be a number that fits 64 bits", c.where(path))
		return nil
	}
	if s.minimum != nil {
		c.found(validate.Minimum(path, c.in, f, *s.minimum, false), "")
	}
	if s.maximum != nil {
		c.found(validate.Maximum(path, c.in, f, *s.maximum, false), "")
	}
	return f
}

func (c *check) array(s *schema, path string, v []any) any {
	if s.minItems != nil {
		c.found(validate.MinItems(path, c.in, int64(len(v)), *s.minItems), "")
	}
	if s.maxItems != nil {
		c.found(validate.MaxItems(path, c.in, int64(len(v)), *s.maxItems), "")
	}
	out := make([]any, len(v))
	for i, item := range v {
		at := path + "." + strconv.Itoa(i)
		if item == nil {
			c.wrongType(at, article(s.items.typ), nil)
			continue
		}
		out[i] = c.value(s.items, at, item)
	}
	return out
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "an array"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	}
	return "a number"
}

func article(typ string) string {
	switch typ {
	case "object", "array", "integer":
		return "an " + typ
	}
	return "a " + typ
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
