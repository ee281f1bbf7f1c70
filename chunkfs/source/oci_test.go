package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// entry is one of an archive: a header and its content.
type entry struct {
	tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}

func link(kind byte, name, to string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o777}}
}

func hard(name, to string) entry { return link(tar.TypeLink, name, to) }
func soft(name, to string) entry { return link(tar.TypeSymlink, name, to) }

// pack makes an archive.
func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		check(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.body)
		check(t, err)
	}
	check(t, w.Close())
	return b.Bytes()
}

// compress does as the codec's name says.
func compress(t testing.TB, codec string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		var err error
		w, err = zstd.NewWriter(&out)
		check(t, err)
	default:
		return b
	}
	_, err := w.Write(b)
	check(t, err)
	check(t, w.Close())
	return out.Bytes()
}

// packedLayer is a layer for go-containerregistry, whose own ones know the digest of their content as it is compressed by them.
type packedLayer struct {
	v1.Layer
	diff v1.Hash
}

func (l packedLayer) DiffID() (v1.Hash, error) { return l.diff, nil }

func newLayer(t testing.TB, codec string, plain []byte) v1.Layer {
	t.Helper()
	kind := map[string]types.MediaType{"": types.OCIUncompressedLayer, "gzip": types.OCILayer, "zstd": types.OCILayerZStd}[codec]
	diff, _, err := v1.SHA256(bytes.NewReader(plain))
	check(t, err)
	return packedLayer{static.NewLayer(compress(t, codec, plain), kind), diff}
}

func newImage(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	im, err := mutate.AppendLayers(base, layers...)
	check(t, err)
	config, err := im.ConfigFile()
	check(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	im, err = mutate.ConfigFile(im, config)
	check(t, err)
	return im
}

// newLayout writes an image layout that has the image.
func newLayout(t testing.TB, im v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	check(t, err)
	check(t, p.AppendImage(im))
	return dir
}

// shape is a tree without what most tests of layers do not look at: a path, and what is there.
func shape(x tree, data map[string]string) map[string]string {
	out := map[string]string{}
	for p, line := range x {
		switch {
		case strings.Contains(line, ` is "`):
			_, first, _ := strings.Cut(line, ` is "`)
			out[p] = "as " + first[:strings.IndexByte(first, '"')]
		case strings.HasPrefix(line, "04"):
			out[p] = "dir"
		case strings.HasPrefix(line, "12"):
			out[p] = "link"
		default:
			out[p] = data[line[strings.LastIndexByte(line, ' ')+1:]]
		}
	}
	return out
}

func layersOf(t testing.TB, layers ...[]entry) string {
	t.Helper()
	var list []v1.Layer
	for i, entries := range layers {
		list = append(list, newLayer(t, []string{"gzip", "zstd", ""}[i%3], pack(t, entries...)))
	}
	return newLayout(t, newImage(t, "amd64", list...))
}

func TestLayersAreLaidOneOverTheOther(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]entry
		want   string
	}{
		{"a later layer replaces", [][]entry{{reg("a", "1"), reg("b", "2")}, {reg("a", "3")}}, "a=3 b=2"},
		{"a whiteout", [][]entry{{reg("d/a", "1"), reg("d/b", "2")}, {reg("d/.wh.a", "")}}, "d/b=2"},
		{"a whiteout of a directory", [][]entry{{dir("d"), reg("d/e/a", "1"), reg("b", "2")}, {reg(".wh.d", "")}}, "b=2"},
		{"a whiteout of what is not there", [][]entry{{reg("b", "2")}, {reg("x/y/.wh.z", "")}}, "b=2"},
		{"a whiteout spares its own layer", [][]entry{{reg("a", "1")}, {reg("a", "2"), reg(".wh.a", "")}}, "a=2"},
		{"a whiteout before what replaces it", [][]entry{{reg("a/x", "1")}, {reg(".wh.a", ""), reg("a/y", "2")}}, "a/y=2"},
		{"a whiteout behind what replaces it", [][]entry{{dir("a"), reg("a/x", "1")}, {reg("a/y", "2"), reg(".wh.a", "")}}, "a/y=2"},
		{"an opaque directory", [][]entry{{dir("d"), reg("d/a", "1"), reg("d/s/b", "2")}, {dir("d"), reg("d/c", "3"), reg("d/.wh..wh..opq", "")}}, "d=dir d/c=3"},
		{"an opaque root", [][]entry{{reg("a", "1"), dir("d")}, {reg(".wh..wh..opq", ""), reg("b", "2")}}, "b=2"},
		{"AUFS' own files", [][]entry{{reg(".wh..wh.aufs", ""), reg(".wh..wh.plnk/1.2", "x"), reg("a", "1")}}, "a=1"},
		{"a directory becomes a file", [][]entry{{dir("a"), reg("a/x", "1")}, {reg("a", "2")}}, "a=2"},
		{"a file becomes a directory", [][]entry{{reg("a", "1")}, {dir("a"), reg("a/x", "2")}}, "a=dir a/x=2"},
		{"a directory again keeps what is in it", [][]entry{{dir("a"), reg("a/x", "1")}, {dir("a")}}, "a=dir a/x=1"},
		{"a hard link in a layer", [][]entry{{reg("a", "1"), hard("b", "a")}}, "a=as_a b=as_a"},
		{"a hard link to below", [][]entry{{reg("a", "1")}, {hard("b", "a")}}, "a=as_a b=as_a"},
		{"a hard link outlives its name", [][]entry{{reg("a", "1")}, {hard("b", "a")}, {reg(".wh.a", "")}}, "b=1"},
		{"a hard link outlives its content's change", [][]entry{{reg("a", "1"), hard("b", "a"), reg("a", "2")}}, "a=2 b=1"},
		{"through a link of a layer below", [][]entry{{dir("usr"), dir("usr/lib"), soft("lib", "usr/lib")}, {reg("lib/x", "1")}}, "usr=dir usr/lib=dir lib=link usr/lib/x=1"},
		{"through an absolute link", [][]entry{{dir("usr/lib"), soft("lib", "/usr/lib")}, {reg("lib/x", "1"), hard("y", "lib/x")}}, "usr/lib=dir lib=link usr/lib/x=as_usr/lib/x y=as_usr/lib/x"},
		{"a link out of the root stays in it", [][]entry{{soft("up", "../../.."), reg("a", "1")}, {reg("up/b", "2")}}, "up=link a=1 b=2"},
		{"a whiteout through a link", [][]entry{{reg("usr/lib/x", "1"), reg("usr/lib/y", "2"), soft("lib", "usr/lib")}, {reg("lib/.wh.x", "")}}, "lib=link usr/lib/y=2"},
		{"no layer", nil, ""},
		{"an empty layer", [][]entry{{}, {reg("a", "1")}}, "a=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := map[string]string{}
			for _, body := range []string{"1", "2", "3", "x"} {
				data[hashOf(body)] = body
			}
			got := shape(read(t, open(t, layersOf(t, c.layers...), source.Options{Platform: "linux/amd64"})), data)
			want := map[string]string{}
			for _, f := range strings.Fields(c.want) {
				p, what, _ := strings.Cut(f, "=")
				want[p] = strings.ReplaceAll(what, "_", " ")
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func TestAnImageGivesWhatTheDirectoryHas(t *testing.T) {
	tmp, tree := t.TempDir(), makeTree(t)
	want := read(t, openDir(t, tree)).without("dev/socket").replaced(` is "dev/null"`, "")
	file := filepath.Join(tmp, "tree.tar")
	run(t, tree, "tar", "-cf", file, "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-S", ".")
	b, err := os.ReadFile(file)
	check(t, err)
	layout := newLayout(t, newImage(t, "amd64", newLayer(t, "zstd", b), newLayer(t, "gzip", pack(t, reg("more", "x"))), newLayer(t, "gzip", pack(t, reg(".wh.more", "")))))
	same(t, want, read(t, open(t, layout, source.Options{})))
	for _, args := range [][]string{{"-cf", "l.tar"}, {"-czf", "l.tar.gz"}, {"--zstd", "-cf", "l.tar.zst"}} {
		out := filepath.Join(tmp, args[len(args)-1])
		args[len(args)-1] = out
		run(t, layout, "tar", append(args, "blobs", "oci-layout", "index.json")...)
		src := open(t, out, source.Options{})
		same(t, want, read(t, src))
		if src.Done() > src.Total() || src.Done() < src.Total()/3 {
			t.Errorf("at the end %d of %d are done", src.Done(), src.Total())
		}
		in, err := os.Open(out)
		check(t, err)
		defer in.Close()
		same(t, want, read(t, open(t, source.Stdin, source.Options{Stdin: in, Kind: source.KindOCI})))
	}
}

func TestPlatformAndName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	check(t, err)
	image := func(arch, body string) v1.Image {
		return newImage(t, arch, newLayer(t, "gzip", pack(t, reg(body, body))))
	}
	platform := func(arch, variant string) layout.Option {
		return layout.WithPlatform(v1.Platform{OS: "linux", Architecture: arch, Variant: variant})
	}
	name := func(n string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": n})
	}
	check(t, p.AppendImage(image("amd64", "a"), platform("amd64", ""), name("one")))
	check(t, p.AppendImage(image("arm64", "b"), platform("arm64", "v8"), name("one")))
	check(t, p.AppendImage(image("amd64", "c"), platform("amd64", ""), name("docker.io/library/two:latest")))
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image("riscv64", "d"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}}})
	check(t, p.AppendIndex(nested, name("three")))
	for _, c := range []struct {
		ref, platform, want string
		kind                fault.Kind
	}{
		{ref: "one", platform: "linux/amd64", want: "a"},
		{ref: "one", platform: "linux/arm64", want: "b"},
		{ref: "one", platform: "linux/arm64/v8", want: "b"},
		{ref: "two", platform: "linux/amd64", want: "c"},
		{ref: "two:latest", platform: "linux/amd64", want: "c"},
		{ref: "docker.io/library/two", platform: "linux/amd64", want: "c"},
		{ref: "three", want: "d"}, // the only one there is
		{ref: "three", platform: "linux/riscv64", want: "d"},
		{ref: "three", platform: "linux/amd64", kind: fault.NotFound},
		{platform: "linux/arm64", want: "b"},
		{platform: "linux/amd64", kind: fault.Invalid},
		{platform: "linux/s390x", kind: fault.NotFound},
		{platform: "amd64", kind: fault.Invalid},
		{ref: "wo", platform: "linux/amd64", kind: fault.NotFound},
		{ref: "four", kind: fault.NotFound},
	} {
		src, err := source.Open(t.Context(), dir, source.Options{Ref: c.ref, Platform: c.platform})
		if c.kind != "" {
			if !fault.Is(err, c.kind) {
				t.Errorf("%q for %q: %v, not %s", c.ref, c.platform, err, c.kind)
			}
			continue
		}
		check(t, err)
		if got := read(t, src); got[c.want] == "" {
			t.Errorf("%q for %q gave %v, not %s", c.ref, c.platform, got, c.want)
		}
		check(t, src.Close())
	}
}

func TestDockerArchive(t *testing.T) {
	low, high := pack(t, reg("a", "1"), reg("b", "2")), pack(t, reg(".wh.a", ""))
	im := newImage(t, "amd64", newLayer(t, "", low), newLayer(t, "", high), newLayer(t, "", low))
	config, err := im.RawConfigFile()
	check(t, err)
	id, err := im.ConfigName()
	check(t, err)
	manifest := fmt.Sprintf(`[{"Config":"%s.json","RepoTags":["it:latest"],"Layers":["x/layer.tar","y/layer.tar","z/layer.tar"]}]`, id.Hex)
	entries := []entry{
		reg(id.Hex+".json", string(config)), dir("x"), reg("x/layer.tar", string(low)), reg("y/layer.tar", string(high)),
		soft("z/layer.tar", "../x/layer.tar"), reg("manifest.json", manifest),
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	check(t, os.WriteFile(file, pack(t, entries...), 0o600))
	for _, ref := range []string{"", "it", "it:latest", id.String()} {
		got := read(t, open(t, file, source.Options{Ref: ref}))
		if len(got) != 2 || got["a"] == "" || got["b"] == "" {
			t.Errorf("as %q it holds %v", ref, got)
		}
	}
	if _, err := source.Open(t.Context(), file, source.Options{Ref: "other"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("another name: %v", err)
	}
	entries[2] = reg("x/layer.tar", string(pack(t, reg("evil", "1"))))
	check(t, os.WriteFile(file, pack(t, entries...), 0o600))
	if _, err := tryRead(t, open(t, file, source.Options{})); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a layer that is another: %v", err)
	}
}

func TestChangedLayoutsAreFoundOut(t *testing.T) {
	whole := layersOf(t, []entry{reg("a", strings.Repeat("content", 1000))})
	blobs, err := filepath.Glob(whole + "/blobs/sha256/*")
	check(t, err)
	if len(blobs) != 3 {
		t.Fatalf("the layout has %v", blobs)
	}
	for _, p := range blobs {
		b, err := os.ReadFile(p)
		check(t, err)
		for name, change := range map[string]func() error{
			"a bit":   func() error { c := bytes.Clone(b); c[len(c)/2] ^= 1; return os.WriteFile(p, c, 0o600) },
			"the end": func() error { return os.WriteFile(p, b[:len(b)-3], 0o600) },
			"more":    func() error { return os.WriteFile(p, append(bytes.Clone(b), 0, 0), 0o600) },
		} {
			check(t, change())
			src, err := source.Open(t.Context(), whole, source.Options{Platform: "linux/amd64"})
			if err == nil {
				_, err = tryRead(t, src)
				check(t, src.Close())
			}
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s of %s changed: %v", name, filepath.Base(p)[:8], err)
			}
		}
		check(t, os.Remove(p))
		if _, err := source.Open(t.Context(), whole, source.Options{Platform: "linux/amd64"}); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s gone: %v", filepath.Base(p)[:8], err)
		}
		check(t, os.WriteFile(p, b, 0o600))
	}
}

func TestHostileLayers(t *testing.T) {
	for name, entries := range map[string][]entry{
		"out by ..":              {reg("../x", "1")},
		"out by a whiteout":      {reg("a", "1"), reg(".wh...", "")},
		"a whiteout of nothing":  {reg(".wh.", "")},
		"in a whiteout":          {reg(".wh.x/y", "1")},
		"a loop of links":        {soft("a", "b"), soft("b", "a"), reg("a/x", "1")},
		"below a file":           {reg("a", "1"), reg("a/x", "1")},
		"a link to a directory":  {dir("d"), hard("x", "d")},
		"a link to what is not":  {hard("x", "y")},
		"a link to itself":       {hard("x", "x")},
		"a link out":             {hard("x", "../../etc/passwd")},
		"a name that is no name": {reg(strings.Repeat("n", 256), "1")},
		"a path that is no path": {reg(strings.Repeat("n/", 3000)+"x", "1")},
	} {
		if _, err := tryRead(t, open(t, layersOf(t, entries), source.Options{Platform: "linux/amd64"})); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
