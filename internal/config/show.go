package config

import (
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// WriteYAML writes the configuration as a file that says the same.
func (c *Config) WriteYAML(w io.Writer) error {
	return writeYAML(w, c, func(setting) string { return "" })
}

// WriteExample writes the file with every key at its default, commented out and explained.
func WriteExample(w io.Writer) error {
	c := Default()
	if _, err := fmt.Fprintf(w, `# windlass.yaml: the configuration of windlass serve, read from %s.
# Every key is here at its default. A flag (--run-dir) is stronger than a variable (WINDLASS_RUN_DIR), and that than this file.
# windlass config check FILE says whether a file is right.
`, DefaultFile); err != nil {
		return err
	}
	return writeYAML(w, &c, func(s setting) string { return "\n# " + s.help + "\n#" })
}

func writeYAML(w io.Writer, c *Config, prefix func(setting) string) error {
	for _, s := range settings() {
		var v any = s.value(c).String()
		if l, ok := s.value(c).(*listValue); ok {
			v = []string(*l)
		}
		node := yaml.Node{}
		if err := node.Encode(v); err != nil {
			return fmt.Errorf("write the configuration: %s: %w", s.key, err)
		}
		node.Style = yaml.FlowStyle
		if t := s.value(c).Type(); t == "number" || t == "bool" {
			node.Tag, node.Style = "", 0
		}
		text, err := yaml.Marshal(&node)
		if err != nil {
			return fmt.Errorf("write the configuration: %s: %w", s.key, err)
		}
		if _, err := fmt.Fprintf(w, "%s%s: %s", prefix(s), s.key, text); err != nil {
			return err
		}
	}
	return nil
}

// Fields gives every setting as text, for the log. No setting is a secret: keys are files that are named, not shown.
func (c *Config) Fields() map[string]any {
	fields := map[string]any{}
	for _, s := range settings() {
		fields[s.key] = s.value(c).String()
	}
	return fields
}
