package rbd

import (
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestParseName(t *testing.T) {
	for text, want := range map[string]Name{
		"rbd:rbd/debian":            {Pool: "rbd", Image: "debian"},
		"rbd:rbd/debian@v1":         {Pool: "rbd", Image: "debian", Snapshot: "v1"},
		"rbd:images/hpc/debian.12":  {Pool: "images", Namespace: "hpc", Image: "debian.12"},
		"rbd:images/hpc/Bücher@v:1": {Pool: "images", Namespace: "hpc", Image: "Bücher", Snapshot: "v:1"},
	} {
		got, err := ParseName(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q is read as %+v, written %q, %v", text, got, got, err)
		}
	}
	for _, text := range []string{"", "rbd:", "debian", "rbd/debian", "rbd:debian", "rbd:rbd/", "rbd:/debian", "rbd:rbd//debian", "rbd:a/b/c/d",
		"rbd:rbd/debian@", "rbd:rbd/debian@a@b", "rbd:rbd/a b", "rbd:rbd/a,b", "rbd:rbd/a\nb", "rbd:rbd/a\x00b", "rbd:rbd/a@b/c"} {
		got, err := ParseName(text)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
}

func TestParsePool(t *testing.T) {
	for text, want := range map[string]Name{"rbd:rbd": {Pool: "rbd"}, "rbd:images/hpc": {Pool: "images", Namespace: "hpc"}} {
		if got, err := ParsePool(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "rbd", "rbd:", "rbd:a/", "rbd:a/b/c", "rbd:a/b@c", "rbd:a b"} {
		if got, err := ParsePool(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
}

// FuzzParseName: what is taken is written as it was read, and fits the kernel's line of words.
func FuzzParseName(f *testing.F) {
	for _, text := range []string{"rbd:rbd/debian@v1", "rbd:a/b/c", "rbd:a/b@", "rbd:@/", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err != nil {
			return
		}
		if n.String() != text || strings.ContainsAny(text, " ,\n\x00") {
			t.Errorf("%q is read as %+v", text, n)
		}
	})
}

func TestStates(t *testing.T) {
	old := oldName("debian", time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC))
	if old != "debian.windlass-old-20260504T030201.000Z" {
		t.Errorf("what is replaced is called %s", old)
	}
	for _, c := range []struct {
		image, of string
		info      Info
		want      State
	}{
		{"debian", "", Info{}, Foreign},
		{"debian", "", Info{Digest: "sha256:1"}, Published},
		{old, "debian", Info{Digest: "sha256:1"}, Replaced},
		{"debian" + partMark + "1", "debian", Info{}, Unfinished},
		{"debian" + partMark + "1", "debian", Info{Digest: "sha256:1"}, Unfinished}, // killed just before it got its name
		{"debian" + partMark + "1", "debian", Info{Watchers: []string{"somebody"}}, InProgress},
		{"debian" + goneMark + "1", "debian", Info{Digest: "sha256:1"}, Removing},
		{old + goneMark + "1", old, Info{}, Removing},
		{partMark, "", Info{}, Foreign},
	} {
		i := c.info
		i.Name.Image = c.image
		i.decide()
		if i.State != c.want || i.Of != c.of {
			t.Errorf("%s is %s of %q, want %s of %q", c.image, i.State, i.Of, c.want, c.of)
		}
	}
}

// TestFill: what others write into an image's metadata breaks nothing.
func TestFill(t *testing.T) {
	var i Info
	i.fill(map[string]string{keyLength: "many", keyPublished: "yesterday", keyDigest: "sha256:1", keyPublisher: "root@head"})
	if i.Length != 0 || i.Published != nil || i.Digest != "sha256:1" || i.Publisher != "root@head" {
		t.Errorf("%+v", i)
	}
	i.fill(map[string]string{keyLength: "17", keyPublished: "2026-05-04T03:02:01Z"})
	if i.Length != 17 || i.Published == nil || i.Published.Year() != 2026 {
		t.Errorf("%+v", i)
	}
}
