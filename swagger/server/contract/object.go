package contract

import (
	"encoding/json"
	"strings"

	"github.com/go-openapi/errors"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// object checks a JSON object. Null is the same as not there: the forerunner's client sends it for whatever is unset.
func (c *check) object(s *schema, path string, v map[string]any) any {
	if len(s.parts) > 0 {
		if ref, ok := v["id"]; ok && ref != nil && path != "" {
			return c.reference(path, ref)
		}
		if c.chain++; c.chain > maxChain {
			c.invalid = append(c.invalid, "attachments and mounts lie one in the other more than 64 deep, at "+short(path))
			c.chain--
			return nil
		}
		defer func() { c.chain-- }()
	}
	before := len(c.problems)
	out := make(map[string]any, len(v))
	for _, name := range sortedKeys(v) {
		if member, keep := c.member(s, path, name, v[name]); keep {
			out[name] = member
		}
	}
	for _, name := range s.required {
		if _, ok := v[name]; !ok || v[name] == nil {
			c.found(errors.Required(below(path, name), c.in, nil), "")
		}
	}
	for _, name := range s.names {
		if _, ok := out[name]; !ok && s.props[name].fallback != nil {
			out[name] = s.props[name].fallback
		}
	}
	if len(s.parts) > 0 && len(c.problems) == before {
		if err := onePart(s.name, path, s.parts, out); err != nil {
			c.invalid = append(c.invalid, err.Error())
		}
	}
	return out
}

// member checks one field; keep is false for one that says nothing.
func (c *check) member(s *schema, path, name string, v any) (_ any, keep bool) {
	p, known := s.props[name]
	if !known {
		return c.extra(s, path, name, v)
	}
	if v == nil {
		return nil, false
	}
	at := below(path, name)
	if p.readOnly {
		// The zero value is let through as nothing, as in the forerunner: clients send back templates.
		if !zero(v) {
			c.found(errors.ReadOnly(at, c.in, nil), ": it is given by the server")
		}
		return nil, false
	}
	return c.value(p, at, v), true
}

// extra checks a field that the schema does not name.
func (c *check) extra(s *schema, path, name string, v any) (any, bool) {
	at := below(path, short(name))
	switch {
	case s.values != nil && v == nil:
		c.wrongType(at, article(s.values.typ), nil)
		return nil, false
	case s.values != nil:
		if strings.ContainsRune(name, 0) {
			c.add(errors.PatternFailCode, "a name of %s must not contain a NUL byte", c.where(path))
		}
		return c.value(s.values, at, v), true
	case s.closed:
		c.add(errors.UnallowedPropertyCode, "%s is a forbidden property; known are %s", c.where(at), strings.Join(s.names, ", "))
	}
	return nil, false
}

// reference takes an object with an id for a name of an existing one: every other field is ignored, whatever it is.
func (c *check) reference(path string, id any) any {
	n, ok := id.(json.Number)
	if !ok {
		c.wrongType(path+".id", "an integer", id)
		return nil
	}
	least := 1.0
	return map[string]any{"id": c.integer(&schema{minimum: &least}, path+".id", n)}
}

// zero reports whether v is the zero value of its type.
func zero(v any) bool {
	switch v := v.(type) {
	case string:
		return v == ""
	case bool:
		return !v
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return v == nil
}

func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// short makes a name that the caller chose fit for a message.
func short(name string) string {
	const most = 200
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name)
	if len(name) > most {
		name = name[:most] + "…"
	}
	return name
}

// noID refuses an object that comes with an id of its own.
func noID(s *schema, v any) error {
	o, _ := v.(map[string]any)
	if s.props["id"] == nil || o["id"] == nil {
		return nil
	}
	return fault.New(fault.Invalid, "the body has an id: an id is given by the server; leave it out")
}
