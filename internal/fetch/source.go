package fetch

import (
	"net/url"
	"path"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/redact"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// Source is where a file is read from.
type Source struct {
	url  *url.URL // without userinfo
	user *url.Userinfo
}

// Parse reads the URI of a file: http, https or file. It touches nothing. Its errors are of kind Invalid, call the URI by field, and do
// not repeat it: it may hold a password where nobody expects one.
func Parse(field, raw string) (*Source, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own words quote what it stumbled over, which may be half a password.
		return nil, fault.Hintf(fault.New(fault.Invalid, "%s is not a URI", field),
			"write https://HOST/PATH, http://HOST/PATH or file:///PATH; percent-encode what is special in a user name or password")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Opaque != "" || u.Hostname() == "" {
			return nil, fault.New(fault.Invalid, "%s names no host: write %s://HOST/PATH", field, u.Scheme)
		}
	case "file":
		if err := checkFile(field, u); err != nil {
			return nil, err
		}
	case "":
		return nil, fault.New(fault.Invalid, "%s has no scheme: let it begin with https://, http:// or file:///", field)
	default:
		return nil, fault.New(fault.Invalid, "%s has the scheme %q: there are http, https and file", field, u.Scheme)
	}
	s := &Source{url: u, user: u.User}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return s, nil
}

func checkFile(field string, u *url.URL) error {
	if u.Opaque != "" || (u.Host != "" && u.Host != "localhost") || u.User != nil {
		return fault.New(fault.Invalid, "%s must be an absolute path on this node: write file:///PATH, with three slashes", field)
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fault.New(fault.Invalid, "%s has a ? or a #: in the name of a file write %%3F and %%23", field)
	}
	if err := safepath.CheckAbsolute(field, u.Path); err != nil {
		return err
	}
	if path.Clean(u.Path) == "/" {
		return fault.New(fault.Invalid, "%s names a directory, not a file", field)
	}
	return nil
}

// IsFile says that it is a file of this node.
func (s *Source) IsFile() bool { return s.url.Scheme == "file" }

// String is the URI as it may be shown: no user, no password, no values of a query.
func (s *Source) String() string { return shown(s.url) }

func shown(u *url.URL) string { return redact.URL(u.String()) }
