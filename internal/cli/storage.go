package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/nearest"
)

// secretFlags say where a secret comes from: never from the command line itself, which every user of the node can read.
type secretFlags struct{ file, credential string }

// register adds the flags. prefix stands before their names, such as "chap-"; what is what the secret is.
func (s *secretFlags) register(cmd *cobra.Command, prefix, what string) {
	f := cmd.Flags()
	f.StringVar(&s.file, prefix+"secret-file", "", "file with "+what+", read here; - is stdin")
	f.StringVar(&s.credential, prefix+"credential", "", "name of a file with it in the daemon's directory of credentials")
}

// read gives the secret; "" when it is not read here.
func (s *secretFlags) read(a *app, cmd *cobra.Command, prefix string) (string, error) {
	if s.file == "" {
		return "", nil
	}
	if s.credential != "" {
		return "", usagef(cmd, "--%ssecret-file and --%scredential exclude each other", prefix, prefix)
	}
	from := a.in
	if s.file != "-" {
		f, err := os.Open(s.file)
		if err != nil {
			return "", usageError{fmt.Errorf("--%ssecret-file: %w", prefix, err), cmd.CommandPath()}
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, credential.Max+1))
	switch secret := strings.TrimRight(string(text), "\r\n"); {
	case err != nil:
		return "", fmt.Errorf("read the secret from %s: %w", s.file, err)
	case len(text) > credential.Max:
		return "", usagef(cmd, "--%ssecret-file: %s is too long for a secret", prefix, s.file)
	case secret == "":
		return "", usagef(cmd, "--%ssecret-file: there is nothing in %s", prefix, s.file)
	default:
		return secret, nil
	}
}

// secretFields are those of a definition that say where a secret comes from; there are flags for them.
func secretFields() []string { return []string{"secret", "secret_file", "credential"} }

// setOptions sets fields of a part of a definition by the names that they have on the wire: NAME=VALUE, or NAME alone for one that is on
// or off. taken are names that have a flag of their own.
func setOptions(part any, words []string, taken ...string) error {
	fields := wireFields(part)
	known := slices.DeleteFunc(sortedKeys(fields), func(name string) bool { return slices.Contains(taken, name) })
	values := map[string]any{}
	for _, w := range words {
		name, value, given := strings.Cut(w, "=")
		if slices.Contains(secretFields(), name) {
			return fmt.Errorf("%s is nothing for a command line: give it by --secret-file or --credential", name)
		}
		kind, ok := fields[name]
		if !ok || slices.Contains(taken, name) {
			return unknownOption(name, known)
		}
		v, err := optionValue(kind, value, given)
		if err != nil {
			return fmt.Errorf("option %s: %w", name, err)
		}
		values[name] = v
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, part)
}

func unknownOption(name string, known []string) error {
	if near := nearest.To(name, known); len(near) > 0 {
		return fmt.Errorf("there is no option %q; did you mean %s?", name, strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no option %q; there are %s", name, strings.Join(known, ", "))
}

// wireFields gives the kinds of the plain fields of what part points to, by their names on the wire.
func wireFields(part any) map[string]reflect.Kind {
	fields := map[string]reflect.Kind{}
	t := reflect.TypeOf(part).Elem()
	for i := range t.NumField() {
		f := t.Field(i)
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch kind.Kind() {
		case reflect.Bool, reflect.Int64, reflect.String:
			fields[name] = kind.Kind()
		}
	}
	return fields
}

func optionValue(kind reflect.Kind, text string, given bool) (any, error) {
	switch {
	case kind == reflect.Bool && !given:
		return true, nil
	case kind == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return b, nil
	case !given || text == "":
		return nil, fmt.Errorf("its value is missing")
	case kind == reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	}
	return text, nil
}

// hostPort takes HOST or HOST:PORT apart; port is 0 when there is none. An IPv6 address with a port has brackets.
func hostPort(text string) (host string, port int64, err error) {
	host, digits, serr := net.SplitHostPort(text)
	if serr != nil {
		bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
		if bare == "" || strings.Contains(bare, ":") && net.ParseIP(strings.SplitN(bare, "%", 2)[0]) == nil {
			return "", 0, fmt.Errorf("%q is not HOST or HOST:PORT", text)
		}
		return bare, 0, nil
	}
	port, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || port < 1 || port > 65535 || host == "" {
		return "", 0, fmt.Errorf("%q is not HOST or HOST:PORT", text)
	}
	return host, port, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
