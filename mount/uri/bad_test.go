package uri_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestBadFiles(t *testing.T) {
	dir := tree(t)
	im := images(t, dir)
	work := t.TempDir()
	sh(t, `cd "$1"; gzip -kc "$2" > sq.gz; truncate -s 4M big; tar -czf bomb.tar.gz big
mkdir many; (cd many; touch {1..8300}); tar -czf many.tar.gz many; truncate -s 1M ext; mkfs.ext4 -q ext`, work, im["squashfs"])
	squash := must(t, im["squashfs"])
	broken := bytes.Clone(squash)
	copy(broken[8:96], bytes.Repeat([]byte{0xff}, 88))
	tarball := must(t, im["tar.zst"])
	wrong := "sha256:" + strings.Repeat("0", 64)
	base := files(t, map[string][]byte{
		"html": []byte("\n<!DOCTYPE html><html>Sign in</html>"), "json": []byte(`{"error":"no"}`), "empty": nil, "elf": append([]byte("\x7fELF"), make([]byte, 5000)...),
		"zeros": make([]byte, 100000), "rubbish": bytes.Repeat([]byte("rubbish"), 1000), "iso": append(append(make([]byte, 32769), "CD001"...), make([]byte, 100)...),
		"sq.gz": must(t, work+"/sq.gz"), "ext": must(t, work+"/ext"), "sq": squash, "broken": broken, "cut": squash[:len(squash)/2], "zst": tarball, "zstcut": tarball[:len(tarball)/2],
		"bomb": must(t, work+"/bomb.tar.gz"), "many": must(t, work+"/many.tar.gz"), "lfs": []byte("version https://git-lfs.github.com/spec/v1\n"),
	})
	for name, tc := range map[string]struct {
		file, digest, format string
		size                 int64
		kind                 fault.Kind
		want                 string
	}{
		"html":               {file: "html", kind: fault.Corrupt, want: "<!DOCTYPE html>"},
		"html, not squashfs": {file: "html", format: "squashfs", kind: fault.Corrupt, want: "not a squashfs image: it looks like an HTML page, begins with"},
		"json":               {file: "json", kind: fault.Corrupt, want: "a JSON document"},
		"empty":              {file: "empty", kind: fault.Corrupt, want: "an empty file"},
		"empty tar":          {file: "empty", format: "tar", kind: fault.Corrupt, want: "an empty file"},
		"elf":                {file: "elf", kind: fault.Corrupt, want: "an ELF program"},
		"iso":                {file: "iso", format: "erofs", kind: fault.Corrupt, want: "an ISO 9660 image"},
		"ext4":               {file: "ext", kind: fault.Corrupt, want: "ext4"},
		"zeros":              {file: "zeros", kind: fault.Corrupt, want: "nothing but zeros"},
		"zeros as tar":       {file: "zeros", format: "tar", kind: fault.Corrupt, want: "nothing but zeros"},
		"lfs":                {file: "lfs", kind: fault.Corrupt, want: "Git LFS pointer"},
		"rubbish":            {file: "rubbish", kind: fault.Corrupt, want: `begins with "rubbishr`},
		"rubbish as tar":     {file: "rubbish", format: "tar", kind: fault.Corrupt, want: "the archive is damaged after the first entry"},
		"squashfs as erofs":  {file: "sq", format: "erofs", kind: fault.Corrupt, want: "not an erofs image: it looks like a squashfs image"},
		"squashfs as tar":    {file: "sq", format: "tar", kind: fault.Corrupt, want: "not a tar archive: it looks like a squashfs image"},
		"squashfs in gzip":   {file: "sq.gz", kind: fault.Corrupt, want: "inside is not a tar archive but looks like a squashfs image"},
		"broken squashfs":    {file: "broken", kind: fault.Corrupt, want: "mount what was read from http://"},
		"cut squashfs":       {file: "cut", kind: fault.Corrupt, want: "mount squashfs"},
		"wrong digest":       {file: "sq", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"wrong digest, tar":  {file: "zst", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"cut tar":            {file: "zstcut", kind: fault.Corrupt, want: "cut off"},
		"cut tar, digest":    {file: "zstcut", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"too large image":    {file: "sq", size: 65536, kind: fault.TooLarge, want: "the limit is 65536"},
		"too large tar":      {file: "zst", size: 65536, kind: fault.TooLarge, want: "takes more than the 65536 bytes"},
		"too many files":     {file: "many", size: 65536, kind: fault.TooLarge, want: "has more files than the"},
		"missing":            {file: "none", kind: fault.NotFound, want: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			tg := target(t)
			sp := spec(base + tc.file)
			sp.URI.Digest, sp.URI.Size = tc.digest, tc.size
			if tc.format != "" {
				sp.URI.Format = &tc.format
			}
			_, err := driver().Mount(t.Context(), 8, sp, nil, tg)
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v (%s, hint %q), want %s with %q", err, fault.KindOf(err), fault.HintOf(err), tc.kind, tc.want)
			}
			if tc.kind == fault.TooLarge && !strings.Contains(fault.HintOf(err), "size") {
				t.Errorf("the hint is %q", fault.HintOf(err))
			}
		})
	}
	t.Run("holes are no bomb", func(t *testing.T) {
		tg := target(t)
		sp := spec(base + "bomb")
		sp.URI.Size = 65536
		a, err := driver().Mount(t.Context(), 9, sp, nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	})
}
