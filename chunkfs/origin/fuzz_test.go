package origin

import (
	"fmt"
	"testing"
)

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-9/10", "bytes 5-4/10", "bytes 0-10/10", "bytes */10", "bytes 0-9/*", "bytes +1-2/3", "bytes 0-9223372036854775807/9223372036854775807", "", "bytes  0-1/2", "bytes 0x1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, end, size, ok := parseContentRange(s)
		if ok && (from < 0 || from >= end || end > size) {
			t.Errorf("%q gives %d, %d, %d", s, from, end, size)
		}
		if ok && from < 10 && end <= 10 && size < 10 && s != fmt.Sprintf("bytes %d-%d/%d", from, end-1, size) {
			var zeros bool
			for i := range len(s) - 1 { // 007 is 7
				zeros = zeros || s[i] == '0' && s[i+1] >= '0' && s[i+1] <= '9'
			}
			if !zeros {
				t.Errorf("%q is taken for %d, %d, %d", s, from, end, size)
			}
		}
	})
}

func FuzzTag(f *testing.F) {
	for _, s := range []string{"", "\n", "blake3:", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseTag(b)
		if err == nil && d.String() != string(b) && d.String()+"\n" != string(b) {
			t.Errorf("%q is taken for %s", b, d)
		}
	})
}
