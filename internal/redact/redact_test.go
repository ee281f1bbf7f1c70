package redact

import "testing"

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://host/image.sqsh":                   "http://host/image.sqsh",
		"https://user:pw@host:8443/a%20b":          "https://***@host:8443/a%20b",
		"https://token@host/a":                     "https://***@host/a",
		"https://host/a?X-Signature=abc&expires=1": "https://host/a?***",
		"file:///srv/image":                        "file:///srv/image",
		"http://user:pw@ho st/":                    "***",
	} {
		if got := URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}
