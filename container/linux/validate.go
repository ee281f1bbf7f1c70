package linux

import (
	"path"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Validate checks the spec alone.
func (r *Runtime) Validate(spec *models.Container) error {
	if _, err := splitCommand(spec); err != nil {
		return err
	}
	if spec.WorkingDir != "" {
		if err := safepath.CheckAbsolute("working_dir", spec.WorkingDir); err != nil {
			return err
		}
	}
	if err := checkEnv(spec.Env); err != nil {
		return err
	}
	if strings.ContainsRune(spec.User, 0) || len(spec.User) > 256 {
		return fault.New(fault.Invalid, "user is no user name")
	}
	if len(spec.Hostname) > 64 || strings.ContainsAny(spec.Hostname, "\x00/ \n") {
		return fault.New(fault.Invalid, "hostname %q is no host name of at most 64 bytes", spec.Hostname)
	}
	for _, n := range spec.Namespaces {
		switch n {
		case "mnt", "pid", "uts", "ipc", "cgroup", "net", "user", "time":
		default:
			return fault.New(fault.Invalid, "namespaces: there is no %q; mnt, pid, uts, ipc and cgroup are always there, net, user and time can be asked for", n)
		}
	}
	if err := checkLimits(spec.Limits); err != nil {
		return err
	}
	return checkBinds(spec.Binds)
}

// splitCommand splits the command as a shell does, without expansion.
func splitCommand(spec *models.Container) ([]string, error) {
	if spec.Command == nil {
		return nil, fault.New(fault.Invalid, "command is missing")
	}
	if strings.ContainsRune(*spec.Command, 0) {
		return nil, fault.New(fault.Invalid, "command holds a NUL byte")
	}
	words, err := shellquote.Split(*spec.Command)
	switch err {
	case nil:
	case shellquote.UnterminatedSingleQuoteError:
		return nil, fault.New(fault.Invalid, "command: a single quote (') is opened and not closed")
	case shellquote.UnterminatedDoubleQuoteError:
		return nil, fault.New(fault.Invalid, `command: a double quote (") is opened and not closed`)
	case shellquote.UnterminatedEscapeError:
		return nil, fault.New(fault.Invalid, `command ends with a backslash (\) that escapes nothing`)
	default:
		return nil, fault.New(fault.Invalid, "command: %w", err)
	}
	if len(words) == 0 || words[0] == "" {
		return nil, fault.New(fault.Invalid, "command is empty: name the program to run, such as /sbin/init")
	}
	if strings.Contains(words[0], "/") && words[0][0] != '/' {
		return nil, fault.New(fault.Invalid, "command: %q is a relative path; give an absolute one, or a plain name to be found in PATH", words[0])
	}
	return words, nil
}

func checkEnv(env map[string]string) error {
	for name, value := range env {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fault.New(fault.Invalid, "env: %q is no name for a variable: it must not be empty nor hold = or NUL", name)
		case strings.ContainsRune(value, 0):
			return fault.New(fault.Invalid, "env: the value of %s holds a NUL byte", name)
		}
	}
	return nil
}

// Smallest limits; below them nothing starts, and the kernel's message says little.
const (
	minMemory = 1 << 20
	minCPU    = 0.01
)

func checkLimits(l *models.ContainerLimits) error {
	switch {
	case l == nil:
	case l.Memory != 0 && l.Memory < minMemory:
		return fault.New(fault.Invalid, "limits.memory is %d bytes; at least %d are needed", l.Memory, minMemory)
	case l.CPU != 0 && l.CPU < minCPU:
		return fault.New(fault.Invalid, "limits.cpu is %g; at least %g is needed", l.CPU, minCPU)
	case l.Pids < 0:
		return fault.New(fault.Invalid, "limits.pids is %d; at least 1 is needed", l.Pids)
	}
	return nil
}

// ours are the places where the runtime mounts something itself.
var ours = []string{"/", "/proc", "/sys", "/dev", "/run", "/tmp", "/dev/pts", "/dev/console", "/sys/fs/cgroup"}

func checkBinds(binds []*models.ContainerBind) error {
	seen := map[string]bool{}
	for _, b := range binds {
		if b == nil || b.Source == nil || b.Target == nil {
			return fault.New(fault.Invalid, "binds: each needs a source and a target")
		}
		if err := safepath.CheckAbsolute("binds: source", *b.Source); err != nil {
			return err
		}
		if err := safepath.CheckAbsolute("binds: target", *b.Target); err != nil {
			return err
		}
		target := path.Clean(*b.Target)
		for _, o := range ours {
			if target == o {
				return fault.New(fault.Invalid, "binds: target %s is mounted by the runtime itself; bind below it", target)
			}
		}
		if seen[target] {
			return fault.New(fault.Invalid, "binds: target %s is there twice", target)
		}
		seen[target] = true
	}
	return nil
}
