package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/windlass-hpc/windlass/internal/nearest"
)

// fileValues are the texts of a file by key.
type fileValues map[string]fileValue

type fileValue struct{ where, text string }

func readFile(flags *Flags) (fileValues, error) {
	path, named := DefaultFile, false
	if flags != nil && flags.File != "" {
		path, named = flags.File, true
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, Problems{"configuration file: " + err.Error()}
	}
	return parseFile(path, data)
}

// parseFile takes a mapping of the known keys to scalars or lists of them. What is right in it is answered beside the error.
func parseFile(path string, data []byte) (fileValues, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, Problems{path + ": " + strings.TrimPrefix(err.Error(), "yaml: ")}
	}
	if len(doc.Content) == 0 { // nothing but comments
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, Problems{fmt.Sprintf("%s:%d: the file must be a mapping of keys to values, such as `port: 8080`", path, root.Line)}
	}
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key] = true
	}
	values, problems := fileValues{}, Problems(nil)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		where := fmt.Sprintf("%s:%d", path, key.Line)
		text, err := scalarText(node)
		switch {
		case !known[key.Value]:
			problems = append(problems, where+": unknown key "+key.Value+didYouMean(key.Value))
		case values[key.Value].where != "":
			problems = append(problems, where+": "+key.Value+" is there twice, first at "+values[key.Value].where)
		case err != nil:
			problems = append(problems, where+": "+key.Value+": "+err.Error())
		default:
			values[key.Value] = fileValue{where, text}
		}
	}
	if len(problems) > 0 {
		return values, problems
	}
	return values, nil
}

// scalarText gives a scalar as it is written, and a list of scalars with commas between them.
func scalarText(node *yaml.Node) (string, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return "", errors.New("the value is missing; leave the key out for the default")
		}
		return node.Value, nil
	case yaml.SequenceNode:
		var words []string
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return "", errors.New("the items of the list must be plain words")
			}
			words = append(words, item.Value)
		}
		return strings.Join(words, ","), nil
	}
	return "", errors.New("the value must be a plain word or a list of them")
}

func didYouMean(key string) string {
	var names []string
	for _, s := range settings() {
		names = append(names, s.key)
	}
	if near := nearest.To(key, names); len(near) > 0 {
		return " (did you mean " + strings.Join(near, " or ") + "?)"
	}
	return "; `windlass config check` lists those that there are"
}
