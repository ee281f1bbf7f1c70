package contract

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-openapi/errors"
	"github.com/go-openapi/spec"

	"github.com/windlass-hpc/windlass/internal/fault"
)

type param struct {
	name     string
	in       string // query, path or header
	required bool
	schema   *schema
}

func resolve(shared map[string]spec.Parameter, p spec.Parameter) (spec.Parameter, error) {
	ref := p.Ref.String()
	if ref == "" {
		return p, nil
	}
	name, ok := strings.CutPrefix(ref, "#/parameters/")
	target, known := shared[name]
	if !ok || !known {
		return p, fmt.Errorf("it refers to %s, which the contract does not have", ref)
	}
	return target, nil
}

func newParam(p spec.Parameter) (param, error) {
	if p.In != "query" && p.In != "path" && p.In != "header" {
		return param{}, fmt.Errorf("parameter %s is in %s, which the server does not know", p.Name, p.In)
	}
	s := &spec.Schema{}
	s.Type = spec.StringOrArray{p.Type}
	s.Enum, s.Default, s.Pattern = p.Enum, p.Default, p.Pattern
	s.Minimum, s.Maximum, s.MinLength, s.MaxLength = p.Minimum, p.Maximum, p.MinLength, p.MaxLength
	s.ExclusiveMinimum, s.ExclusiveMaximum, s.MultipleOf = p.ExclusiveMinimum, p.ExclusiveMaximum, p.MultipleOf
	compiled := &schema{}
	if err := (&compiler{}).fill(compiled, s); err != nil {
		return param{}, fmt.Errorf("parameter %s: %w", p.Name, err)
	}
	return param{p.Name, p.In, p.Required, compiled}, nil
}

// Params are the values of a request's parameters, by name: int64, float64, bool or string.
type Params map[string]any

// Params checks the parameters of r. path holds those of the path. A parameter that is there and empty is not given, as in the
// forerunner. An unknown one in the query is a violation: a misspelt force or id must not be overlooked.
func (op *Operation) Params(r *http.Request, path map[string]string) (Params, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query cannot be read: %w", err)
	}
	var problems []problem
	out := Params{}
	for _, p := range op.params {
		c := check{in: p.in}
		var given []string
		switch p.in {
		case "query":
			given = query[p.name]
			query.Del(p.name)
		case "header":
			given = r.Header.Values(p.name)
		case "path":
			given = []string{path[p.name]}
		}
		if v := c.param(p, given); v != nil {
			out[p.name] = v
		}
		problems = append(problems, c.problems...)
	}
	c := check{in: "query", problems: problems}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		c.add(errors.UnallowedPropertyCode, "%s in query is not known; known are: %s", short(name), op.known())
	}
	return out, c.err()
}

func (op *Operation) known() string {
	var names []string
	for _, p := range op.params {
		if p.in == "query" {
			names = append(names, p.name)
		}
	}
	if names == nil {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// param gives the value, the default, or nil.
func (c *check) param(p param, given []string) any {
	if len(given) > 1 {
		c.add(errors.InvalidTypeCode, "%s in %s is there %d times; give it once", p.name, p.in, len(given))
		return nil
	}
	if len(given) == 0 || given[0] == "" {
		if p.required {
			c.found(errors.Required(p.name, p.in, nil), "")
		}
		return p.schema.fallback
	}
	v, ok := convert(p.schema.typ, given[0])
	if !ok {
		c.add(errors.InvalidTypeCode, "%s in %s must be %s, not %s", p.name, p.in, article(p.schema.typ), show(given[0]))
		return nil
	}
	return c.value(p.schema, p.name, v)
}

// convert reads a parameter's text as the type that JSON would have given it.
func convert(typ, text string) (any, bool) {
	switch typ {
	case "integer":
		_, err := strconv.ParseInt(text, 10, 64)
		return json.Number(text), err == nil
	case "number":
		_, err := strconv.ParseFloat(text, 64)
		return json.Number(text), err == nil
	case "boolean":
		switch strings.ToLower(text) {
		case "true", "t", "1", "yes", "y", "on":
			return true, true
		case "false", "f", "0", "no", "n", "off":
			return false, true
		}
		return nil, false
	}
	return text, true
}

// Int64 gives a parameter, nil when it was not given.
func (p Params) Int64(name string) *int64 { return get[int64](p, name) }

// Float64 gives a parameter, nil when it was not given.
func (p Params) Float64(name string) *float64 { return get[float64](p, name) }

// String gives a parameter, nil when it was not given.
func (p Params) String(name string) *string { return get[string](p, name) }

// Text gives a parameter, "" when it was not given.
func (p Params) Text(name string) string { s, _ := p[name].(string); return s }

// Bool gives a parameter, false when it was not given.
func (p Params) Bool(name string) bool { b, _ := p[name].(bool); return b }

func get[T any](p Params, name string) *T {
	if v, ok := p[name].(T); ok {
		return &v
	}
	return nil
}
