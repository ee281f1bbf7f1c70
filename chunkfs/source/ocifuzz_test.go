package source_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/source"
)

// FuzzOCI takes any bytes as the index, a manifest and a layer of an image layout. Their digests are made right, so that what is in them
// is looked at; it must not panic, hang, or give what no file system holds.
func FuzzOCI(f *testing.F) {
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:@M","size":@m,"platform":{"architecture":"amd64","os":"linux"}}]}`
	manifest := `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:@C","size":@c},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:@L","size":@l}]}`
	layer := pack(f, dir("d"), reg("d/a", "1"), hard("b", "d/a"), soft("s", "d"), reg("d/.wh.a", ""))
	f.Add([]byte(index), []byte(manifest), layer)
	f.Add([]byte(index), []byte(manifest), compress(f, "zstd", layer))
	f.Add([]byte(strings.Replace(index, "image.manifest", "image.index", 1)), []byte(strings.Replace(index, "@M", "@L", 1)), layer)
	f.Add([]byte(index), []byte(strings.Replace(manifest, "@l", "9223372036854775807", 1)), layer)
	f.Add([]byte(index), []byte(strings.Replace(manifest, `"layers":[`, `"layers":[`+strings.Repeat(`{"digest":"sha256:@L","size":@l},`, 300), 1)), layer)
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, index, manifest, layer []byte) {
		l := &fuzzLayout{t: t, dir: filepath.Join(root, "layout")}
		defer os.RemoveAll(l.dir)
		layers := l.blob(layer)
		config := l.blob(fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}`, layers.sum))
		manifest = layers.in(config.in(manifest, "@C", "@c"), "@L", "@l")
		index = layers.in(l.blob(manifest).in(index, "@M", "@m"), "@L", "@l")
		check(t, os.WriteFile(filepath.Join(l.dir, "index.json"), index, 0o600))
		check(t, os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
		src, err := source.OCI(t.Context(), l.dir, source.Options{Platform: "linux/amd64"})
		if err != nil {
			return
		}
		defer src.Close()
		readBounded(t, src)
	})
}

type fuzzLayout struct {
	t   *testing.T
	dir string
}

type fuzzBlob struct {
	sum  string
	size int
}

func (l *fuzzLayout) blob(b []byte) fuzzBlob {
	l.t.Helper()
	sum := fmt.Sprintf("%x", sha256.Sum256(b))
	blobs := filepath.Join(l.dir, "blobs/sha256")
	check(l.t, os.MkdirAll(blobs, 0o700))
	check(l.t, os.WriteFile(filepath.Join(blobs, sum), b, 0o600))
	return fuzzBlob{sum, len(b)}
}

// in puts the digest and the size of a blob where b has marks for them.
func (f fuzzBlob) in(b []byte, sum, size string) []byte {
	b = bytes.ReplaceAll(b, []byte(sum), []byte(f.sum))
	return bytes.ReplaceAll(b, []byte(size), fmt.Append(nil, f.size))
}
