package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func formats() []string { return []string{formatTable, formatJSON, formatYAML} }

// print answers v as JSON or YAML, or calls table, as --output says.
func (a *app) print(v any, table func(io.Writer) error) error {
	switch a.output {
	case formatJSON:
		return writeJSON(a.out, v)
	case formatYAML:
		return writeYAML(a.out, v)
	}
	return table(a.out)
}

// one unpacks a single object: who asks for one gets one, who asks for several gets a list.
func one[T any](list []T) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML writes what JSON would say, with the fields in the same order.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	plain(&doc)
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("write YAML: %w", err)
	}
	_, err = w.Write(buf.Bytes())
	return err
}

// plain takes away the braces and quotes that JSON needs and YAML does not.
func plain(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
	}
	for _, c := range n.Content {
		plain(c)
	}
}
