package uri

import (
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	at := func(offset int, mark string) string { return strings.Repeat("\x01", offset) + mark }
	for in, want := range map[string]string{
		"hsqs":                             "a squashfs image",
		at(1024, "\xe2\xe1\xf5\xe0"):       "an erofs image",
		"\x1f\x8b\x08":                     "a file compressed with gzip",
		"\x28\xb5\x2f\xfd":                 "a file compressed with zstd",
		"\x5f\x2a\x4d\x18\x00\x00\x00\x00": "a file compressed with zstd",
		"\xfd7zXZ\x00":                     "a file compressed with xz",
		at(257, "ustar\x0000"):             "a tar archive",
		at(257, "ustar  \x00"):             "a tar archive",
		at(1080, "\x53\xef"):               "an ext2, ext3 or ext4 image",
		"\xef\xbb\xbf <HTML>":              `an HTML page, begins with "<HTML>"`,
		" [1]":                             `a JSON document, begins with "[1]"`,
		"#!/bin/sh":                        "a script",
		"":                                 "an empty file",
		"plain words":                      "",
	} {
		if got := looksLike([]byte(in)); got != want {
			t.Errorf("%.40q looks like %q, want %q", in, got, want)
		}
	}
}

// FuzzFormat: what is chosen must be what the marks say, and no beginning of a file may get into a message raw.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"", "hsqs", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "<html>\x1b[2J", "{\x00", strings.Repeat("\x00", 1024) + "\xe2\xe1\xf5\xe0"} {
		f.Add("auto", []byte(s))
		f.Add("tar", []byte(s))
	}
	f.Fuzz(func(t *testing.T, asked string, head []byte) {
		got, err := chooseFormat(asked, head)
		if err == nil {
			if asked == "squashfs" && !strings.HasPrefix(string(head), "hsqs") {
				t.Fatal("not a squashfs image")
			}
			if asked == "tar" && got.fsType != "" {
				t.Fatal("an image as a tar archive")
			}
			return
		}
		if asked == "auto" && strings.ContainsAny(err.Error(), "\x1b\x00\n") {
			t.Fatalf("control characters in the message %q", err)
		}
	})
}
