package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/windlass-hpc/windlass/internal/specfile"
)

// maxSpec is more than the daemon takes by default.
const maxSpec = 16 << 20

// readSpec reads the definition in a file, or on stdin when its name is `-`.
func (a *app) readSpec(cmd *cobra.Command, path string, spec object) error {
	from, name := a.in, "stdin"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return usageError{fmt.Errorf("--file: %w", err), ""}
		}
		defer f.Close()
		from, name = f, path
	}
	data, err := io.ReadAll(io.LimitReader(from, maxSpec+1))
	if err != nil {
		return fmt.Errorf("read the definition from %s: %w", name, err)
	}
	if len(data) > maxSpec {
		return usagef(cmd, "%s: longer than %s", name, units.BytesSize(maxSpec))
	}
	if err := specfile.Decode(name, data, spec); err != nil {
		return usageError{err, ""}
	}
	return nil
}

// create raises what spec says, shows how far it is, and shows the object.
func (a *app) create(cmd *cobra.Command, spec object, p progressFlags) error {
	daemon, err := a.connect()
	if err != nil {
		return err
	}
	o, err := a.raise(cmd.Context(), daemon, spec, p)
	if err != nil {
		return err
	}
	return a.answer(o)
}

// answer shows objects as --output says.
func (a *app) answer(objects ...object) error {
	return a.print(one(objects), func(w io.Writer) error { return a.writeObjects(w, objects) })
}

// specCommand makes the command above those for each kind: it reads a definition from a file, or shows its help.
func (a *app) specCommand(cmd *cobra.Command, empty func() object) *cobra.Command {
	var file string
	var p progressFlags
	cmd.Flags().StringVarP(&file, "file", "f", "", "read the definition from this file, YAML or JSON; - is stdin")
	p.register(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown kind %q for %q; others than those of the help need a definition: -f FILE", args[0], cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return cmd.Help()
		}
		spec := empty()
		if err := a.readSpec(cmd, file, spec); err != nil {
			return err
		}
		return a.create(cmd, spec, p)
	}
	return cmd
}

// sizeFlag is a number of bytes such as 512M. 0 is not said.
type sizeFlag int64

func (s *sizeFlag) Type() string { return "size" }
func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return units.BytesSize(float64(*s))
}

func (s *sizeFlag) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 || n == math.MaxInt64 {
		return errors.New("write it as 64K, 512M or 1G")
	}
	*s = sizeFlag(n)
	return nil
}

// path makes the path of something on the daemon's node absolute. A relative one means the working directory, which only a daemon on
// this node shares.
func (a *app) path(daemon *api, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	if !daemon.local {
		return "", usageError{fmt.Errorf("%s: the daemon at %s is not on this node: give an absolute path there", path, daemon.addr), ""}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the path of %s: %w", path, err)
	}
	return abs, nil
}

// said gives a pointer to the flag's value when it was given, else nil, so that the daemon's default counts.
func said[T any](flags *pflag.FlagSet, name string, v T) *T {
	if !flags.Changed(name) {
		return nil
	}
	return &v
}
