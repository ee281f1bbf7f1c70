package nearest

import (
	"slices"
	"testing"
)

func TestTo(t *testing.T) {
	names := []string{"host", "port", "run_dir", "tls_host", "tls_certificate", "lower", "mount"}
	for word, want := range map[string][]string{
		"hots":     {"host"},
		"rundir":   {"run_dir"},
		"run-dir":  {"run_dir"},
		"LOWER":    {"lower"},
		"lowr":     {"lower"},
		"tls_cert": {"tls_certificate"},
		"mnt":      nil,
		"zzz":      nil,
		"":         nil,
	} {
		if got := To(word, names); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", word, got, want)
		}
	}
}
