// Package credential reads the secrets that network storage asks for: from the request itself, from a file of the node, or by name from
// the daemon's directory of credentials.
//
// It owns no secret: what it reads goes to its caller alone, and no error of it quotes content. It trusts a file only when nobody but
// root, or the user that the daemon runs as, can have written or read it.
package credential

import (
	"regexp"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// DefaultDir is where the daemon looks for credentials when nobody says otherwise.
const DefaultDir = "/etc/windlass/credentials"

// Max is the most bytes that a credential may have.
const Max = 64 << 10

// Source says where a secret comes from. At most one of its fields is set; none says that there is no secret.
type Source struct {
	Secret string // the secret itself
	File   string // an absolute path on the node
	Name   string // of a file in the Store's directory
}

// nameRule is how a credential may be called: it cannot lead out of the directory.
var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Validate checks the source alone, touching nothing. Field is what has its fields in the request, such as rbd.options: there they are
// called secret, secret_file and credential.
func (s Source) Validate(field string) error {
	set := 0
	for _, v := range []string{s.Secret, s.File, s.Name} {
		if v != "" {
			set++
		}
	}
	switch {
	case set > 1:
		return fault.New(fault.Invalid, "%s: only one of secret, secret_file and credential may be given", field)
	case len(s.Secret) > Max:
		return fault.New(fault.Invalid, "%s.secret is longer than %d bytes", field, Max)
	case s.File != "":
		return safepath.CheckAbsolute(field+".secret_file", s.File)
	case s.Name != "" && !nameRule.MatchString(s.Name):
		return fault.New(fault.Invalid, "%s.credential %q is no name of a credential: letters, digits, '.', '-' and '_', 128 at most, the first a letter or digit",
			field, s.Name)
	}
	return nil
}
