// Package specfile reads a definition that a person wrote, in YAML or JSON, into a model of the API, and says on which line it is
// wrong.
//
// It judges names and shapes only. What the values may be is the server's to say.
package specfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/windlass-hpc/windlass/internal/nearest"
)

// Problems is everything that is wrong with a file, each with its line.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "\n") }

// Decode reads the one document in data into out, a pointer to a model. The name stands before the line in a problem.
func Decode(name string, data []byte, out any) error {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err == io.EOF {
		return Problems{name + ": the file is empty"}
	} else if err != nil {
		return Problems{name + ": " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if err := dec.Decode(&more); err != io.EOF {
		return Problems{name + ": there is more than one document in the file"}
	}
	c := checker{name: name}
	c.check(doc.Content[0], reflect.TypeOf(out).Elem(), "")
	if len(c.problems) > 0 {
		return c.problems
	}
	var tree any
	if err := doc.Decode(&tree); err != nil { // a key that is there twice, an alias of itself
		return Problems{name + ": " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return Problems{name + ": " + err.Error()}
	}
	if err := json.Unmarshal(text, out); err != nil {
		return Problems{name + ": " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	return nil
}

// maxDepth is deeper than any chain; the server refuses such a one too.
const maxDepth = 1000

type checker struct {
	name     string
	depth    int
	problems Problems
}

func (c *checker) addf(n *yaml.Node, path, format string, args ...any) {
	if path != "" {
		path += ": "
	}
	c.problems = append(c.problems, fmt.Sprintf("%s:%d: %s%s", c.name, n.Line, path, fmt.Sprintf(format, args...)))
}

// check compares the shape of a node with the type that it is to become.
func (c *checker) check(n *yaml.Node, t reflect.Type, path string) {
	if c.depth++; c.depth > maxDepth {
		if c.depth == maxDepth+1 {
			c.addf(n, path[:min(len(path), 60)]+"…", "nested deeper than %d", maxDepth)
		}
		return
	}
	defer func() { c.depth-- }()
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
		c.scalar(n, reflect.TypeFor[string](), path)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		c.object(n, t, path)
	case reflect.Map:
		c.mapping(n, t, path)
	case reflect.Slice:
		c.list(n, t, path)
	default:
		c.scalar(n, t, path)
	}
}

func (c *checker) object(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.MappingNode {
		c.addf(n, path, "must be a mapping of fields, not %s", kindOf(n))
		return
	}
	fields := map[string]reflect.Type{}
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = f.Type
			names = append(names, name)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		ft, known := fields[key.Value]
		if !known {
			c.unknown(key, path, names)
			continue
		}
		c.check(n.Content[i+1], ft, join(path, key.Value))
	}
}

func (c *checker) unknown(key *yaml.Node, path string, names []string) {
	text := "unknown field " + key.Value
	if near := nearest.To(key.Value, names); len(near) > 0 {
		text += " (did you mean " + strings.Join(near, " or ") + "?)"
	} else {
		text += "; there are " + strings.Join(names, ", ")
	}
	c.addf(key, path, "%s", text)
}

func (c *checker) mapping(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.MappingNode {
		c.addf(n, path, "must be a mapping, not %s", kindOf(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		c.check(n.Content[i+1], t.Elem(), join(path, n.Content[i].Value))
	}
}

func (c *checker) list(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.SequenceNode {
		c.addf(n, path, "must be a list, not %s", kindOf(n))
		return
	}
	for i, item := range n.Content {
		c.check(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

// scalar also refuses what YAML reads as something else than was meant, such as a version 4.2 that is to be text.
func (c *checker) scalar(n *yaml.Node, t reflect.Type, path string) {
	if n.Kind != yaml.ScalarNode {
		c.addf(n, path, "must be %s, not %s", nameOf(t), kindOf(n))
		return
	}
	ok := false
	switch t.Kind() {
	case reflect.String:
		if n.Tag == "!!timestamp" {
			n.Tag = "!!str" // keep it as it is written
		}
		ok = n.Tag == "!!str"
	case reflect.Bool:
		ok = n.Tag == "!!bool"
	case reflect.Int64, reflect.Int:
		ok = n.Tag == "!!int"
	case reflect.Float64:
		var f float64
		ok = (n.Tag == "!!int" || n.Tag == "!!float") && n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	}
	switch {
	case ok:
	case t.Kind() == reflect.String:
		c.addf(n, path, "must be text; write %q with the quotes", n.Value)
	default:
		c.addf(n, path, "must be %s, not %q", nameOf(t), n.Value)
	}
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

func nameOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int64, reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "text"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
