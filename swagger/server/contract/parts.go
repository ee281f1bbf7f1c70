package contract

import (
	"fmt"
	"strings"
)

// onePart holds an attachment or mount to its rule: exactly one part, the one that kind names. A kind that is not given is taken from
// the part. It changes nothing else.
func onePart(what, path string, kinds []string, object map[string]any) error {
	var parts []string
	for _, k := range kinds {
		if _, ok := object[k]; ok {
			parts = append(parts, k)
		}
	}
	kind, _ := object["kind"].(string)
	at := path
	if at == "" {
		at = "the " + what
	}
	use := fmt.Sprintf(`give exactly one of %s`, strings.Join(kinds, ", "))
	if path != "" {
		use += fmt.Sprintf(`, or {"id": N} for an existing %s`, what)
	}
	switch {
	case len(parts) == 0 && kind == "":
		return fmt.Errorf("%s has neither kind nor part: %s", at, use)
	case len(parts) == 0:
		return fmt.Errorf("%s is of kind %s, but has no part %s: %s", at, kind, kind, use)
	case len(parts) > 1:
		return fmt.Errorf("%s has the parts %s: %s", at, strings.Join(parts, ", "), use)
	case kind == "":
		object["kind"] = parts[0]
	case kind != parts[0]:
		return fmt.Errorf("%s is of kind %s, but its part is %s: %s", at, kind, parts[0], use)
	}
	return nil
}
