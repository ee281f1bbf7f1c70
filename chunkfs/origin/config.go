package origin

import (
	"crypto/x509"
	"net/url"
	"path"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/redact"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// Display is the URL of an origin as it may be shown: no user, no password, no values of a query.
func Display(raw string) string { return redact.URL(raw) }

// Masked is c as it may be shown: the URL by Display, and a mask in the place of each secret.
func (c Config) Masked() Config {
	mask := func(s *string) {
		if *s != "" {
			*s = redact.Mask
		}
	}
	c.URL = Display(c.URL)
	mask(&c.Username)
	mask(&c.Password)
	mask(&c.Token)
	return c
}

// parseURL reads the URL of an origin: http, https, file:///dir or an absolute path. It touches nothing. Its errors are of kind Invalid, call
// the URL by field, and do not repeat it: it may hold a password where nobody expects one.
func parseURL(field, raw string) (*url.URL, error) {
	if strings.HasPrefix(raw, "/") {
		return &url.URL{Scheme: "file", Path: path.Clean(raw)}, safepath.CheckAbsolute(field, raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own words quote what it stumbled over, which may be half a password.
		return nil, fault.Hintf(fault.New(fault.Invalid, "%s is not a URL", field),
			"write https://HOST/PATH, http://HOST/PATH, file:///DIR or /DIR; percent-encode what is special in a user name or password")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Opaque != "" || u.Hostname() == "" {
			return nil, fault.New(fault.Invalid, "%s names no host: write %s://HOST/PATH", field, u.Scheme)
		}
	case "file":
		if u.Opaque != "" || (u.Host != "" && u.Host != "localhost") || u.User != nil || u.RawQuery != "" || u.ForceQuery {
			return nil, fault.New(fault.Invalid, "%s must be a directory of this node: write file:///DIR, with three slashes", field)
		}
		if err := safepath.CheckAbsolute(field, u.Path); err != nil {
			return nil, err
		}
	case "":
		return nil, fault.New(fault.Invalid, "%s has no scheme: let it begin with https://, http://, file:/// or /", field)
	default:
		return nil, fault.New(fault.Invalid, "%s has the scheme %q: there are http, https and file", field, u.Scheme)
	}
	if u.Fragment != "" {
		return nil, fault.New(fault.Invalid, "%s has a #: percent-encode it as %%23", field)
	}
	return u, nil
}

// Check says what is wrong with c. field names it in the message; no secret is repeated.
func (c Config) Check(field string) error {
	u, err := parseURL(field+".url", c.URL)
	if err != nil {
		return err
	}
	basic := c.Username != "" || c.Password != ""
	switch {
	case u.Scheme == "file" && (basic || c.Token != "" || c.CA != ""):
		return fault.New(fault.Invalid, "%s is a directory: it takes no user, password, token or CA", field)
	case u.User != nil && (basic || c.Token != ""):
		return fault.New(fault.Invalid, "%s has a user in its URL and another one beside it: give one", field)
	case basic && c.Token != "":
		return fault.New(fault.Invalid, "%s has a password and a token: give one", field)
	case strings.Contains(c.Username, ":"):
		return fault.New(fault.Invalid, "%s.username has a colon, which Basic authentication cannot send", field)
	case unprintable(c.Username) || unprintable(c.Password) || unprintable(c.Token):
		return fault.New(fault.Invalid, "%s has a control character in its user, password or token", field)
	}
	_, err = c.pool(field)
	return err
}

func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// pool gives nil, which means the system's own, when there is nothing to add.
func (c Config) pool(field string) (*x509.CertPool, error) {
	if c.CA == "" {
		return nil, nil
	}
	p, err := x509.SystemCertPool()
	if err != nil {
		p = x509.NewCertPool() // a system without certificates still trusts what it is told to
	}
	if !p.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, fault.New(fault.Invalid, "%s.ca holds no certificate in PEM", field)
	}
	return p, nil
}
