// Package redact takes secrets out of what is shown.
package redact

import "net/url"

// Mask stands where a secret was.
const Mask = "***"

// URL hides the user and password of a URL and the values of its query, which often are tokens. What is no URL is hidden whole when it
// might hold a password.
func URL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return Mask
	}
	changed := false
	if u.User != nil {
		u.User, changed = url.User(Mask), true
	}
	if u.RawQuery != "" {
		u.RawQuery, changed = Mask, true
	}
	if !changed {
		return raw
	}
	s := u.Scheme + "://"
	if u.User != nil {
		s += Mask + "@"
	}
	s += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		s += "?" + Mask
	}
	return s
}
