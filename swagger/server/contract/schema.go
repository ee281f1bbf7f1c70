package contract

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-openapi/spec"
)

// schema is a schema of the contract in the form that checking needs: references resolved (it may be cyclic), patterns compiled.
type schema struct {
	name     string // of the definition, or ""
	typ      string // object, array, string, integer, number or boolean
	props    map[string]*schema
	names    []string // of props, sorted
	required []string
	closed   bool    // no other fields
	values   *schema // of other fields
	items    *schema
	parts    []string // of an attachment or mount: the values of kind, each a field too

	enum               []any
	pattern            *regexp.Regexp
	minimum, maximum   *float64
	minLength, maxLen  *int64
	minItems, maxItems *int64
	fallback           any // what the field is when it is not given
	readOnly           bool
}

const definitions = "#/definitions/"

// compiler turns the document's schemas into ours; each definition once, which also ends cycles.
type compiler struct {
	defs spec.Definitions
	done map[string]*schema
}

func (c *compiler) compile(s *spec.Schema) (*schema, error) {
	ref := s.Ref.String()
	if ref == "" {
		out := &schema{}
		return out, c.fill(out, s)
	}
	name, ok := strings.CutPrefix(ref, definitions)
	def, known := c.defs[name]
	if !ok || !known {
		return nil, fmt.Errorf("the contract refers to %s, which it does not have", ref)
	}
	if out := c.done[name]; out != nil {
		return out, nil
	}
	out := &schema{name: name}
	c.done[name] = out
	if err := c.fill(out, &def); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

func (c *compiler) fill(out *schema, s *spec.Schema) error {
	if err := understood(s); err != nil {
		return err
	}
	out.typ = s.Type[0]
	out.required, out.enum, out.fallback, out.readOnly = s.Required, s.Enum, s.Default, s.ReadOnly
	out.minimum, out.maximum = s.Minimum, s.Maximum
	out.minLength, out.maxLen, out.minItems, out.maxItems = s.MinLength, s.MaxLength, s.MinItems, s.MaxItems
	if n, ok := s.Default.(float64); ok && out.typ == "integer" {
		out.fallback = int64(n)
	}
	var err error
	if s.Pattern != "" {
		if out.pattern, err = regexp.Compile(s.Pattern); err != nil {
			return err
		}
	}
	if s.Items != nil {
		if out.items, err = c.compile(s.Items.Schema); err != nil {
			return err
		}
	}
	if more := s.AdditionalProperties; more != nil {
		out.closed = !more.Allows
		if more.Schema != nil {
			if out.values, err = c.compile(more.Schema); err != nil {
				return err
			}
		}
	}
	out.props = make(map[string]*schema, len(s.Properties))
	for name, p := range s.Properties {
		if out.props[name], err = c.compile(&p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	out.names = slices.Sorted(maps.Keys(out.props))
	return out.findParts()
}

// findParts knows a definition with parts by its fields: a kind whose values are names of fields.
func (s *schema) findParts() error {
	kind, id := s.props["kind"], s.props["id"]
	if kind == nil || id == nil {
		return nil
	}
	for _, v := range kind.enum {
		part, ok := v.(string)
		if !ok || s.props[part] == nil {
			return fmt.Errorf("kind %v has no part", v)
		}
		s.parts = append(s.parts, part)
	}
	return nil
}

// understood refuses what the checks below would silently ignore.
func understood(s *spec.Schema) error {
	unknown := []struct {
		word string
		used bool
	}{
		{"a type of its own", len(s.Type) != 1},
		{"allOf", len(s.AllOf) > 0}, {"anyOf", len(s.AnyOf) > 0}, {"oneOf", len(s.OneOf) > 0}, {"not", s.Not != nil},
		{"patternProperties", len(s.PatternProperties) > 0}, {"dependencies", len(s.Dependencies) > 0},
		{"multipleOf", s.MultipleOf != nil}, {"uniqueItems", s.UniqueItems}, {"exclusiveMinimum", s.ExclusiveMinimum},
		{"exclusiveMaximum", s.ExclusiveMaximum}, {"minProperties", s.MinProperties != nil}, {"maxProperties", s.MaxProperties != nil},
		{"additionalItems", s.AdditionalItems != nil},
		{"items that are a list", s.Items != nil && s.Items.Schema == nil},
		{"an enum of other than strings", len(s.Enum) > 0 && !s.Type.Contains("string")},
	}
	for _, u := range unknown {
		if u.used {
			return fmt.Errorf("the contract uses %s where the server does not know it", u.word)
		}
	}
	return nil
}
