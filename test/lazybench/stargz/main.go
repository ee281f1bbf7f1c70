// Command stargzfs mounts an eStargz layer with the file system of stargz-snapshotter, without containerd, and builds such a layer. It is a
// module of its own, so that nothing of this is in windlass.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/metadata/memory"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stargzfs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "build":
		return build(args[1], args[2], args[3])
	case len(args) == 5 && args[0] == "mount":
		return mount(args[1], args[2], args[3], args[4])
	}
	return fmt.Errorf("stargzfs build TREE REGISTRY LAYER.JSON | stargzfs mount HOST LAYER.JSON CACHE MOUNTPOINT")
}

// build makes the layer and leaves its descriptor where mount finds it.
func build(tree, registry, layer string) error {
	tmp := filepath.Join(filepath.Dir(layer), "tree.tar")
	if out, err := exec.Command("tar", "-C", tree, "--one-file-system", "--xattrs", "--xattrs-include=*", "-cf", tmp, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	defer os.Remove(tmp)
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	blob, err := estargz.Build(io.NewSectionReader(f, 0, st.Size()), estargz.WithCompressionLevel(6))
	if err != nil {
		return err
	}
	defer blob.Close()
	out, err := os.CreateTemp(registry, "layer")
	if err != nil {
		return err
	}
	sum := digest.SHA256.Digester()
	size, err := io.Copy(io.MultiWriter(out, sum.Hash()), blob)
	if err != nil {
		return err
	}
	if err := out.Chmod(0o644); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), filepath.Join(registry, sum.Digest().Encoded())); err != nil {
		return err
	}
	desc := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayerGzip, Digest: sum.Digest(), Size: size,
		Annotations: map[string]string{estargz.TOCJSONDigestAnnotation: blob.TOCDigest().String()},
	}
	text, err := json.Marshal(desc)
	if err != nil {
		return err
	}
	return os.WriteFile(layer, text, 0o644)
}

func mount(host, layer, cache, dir string) error {
	text, err := os.ReadFile(layer)
	if err != nil {
		return err
	}
	var desc ocispec.Descriptor
	if err := json.Unmarshal(text, &desc); err != nil {
		return err
	}
	ref, err := reference.Parse(host + "/image:latest")
	if err != nil {
		return err
	}
	hosts := func(reference.Spec) ([]docker.RegistryHost, error) {
		return []docker.RegistryHost{{Client: &http.Client{Transport: http.DefaultTransport}, Host: host, Scheme: "http", Path: "/v2", Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}}, nil
	}
	sources := func(map[string]string) ([]source.Source, error) {
		return []source.Source{{Hosts: hosts, Name: ref, Target: desc, Manifest: ocispec.Manifest{Layers: []ocispec.Descriptor{desc}}}}, nil
	}
	cfg := config.Config{NoPrefetch: true, NoBackgroundFetch: true, NoPrometheus: true}
	files, err := fs.NewFilesystem(cache, cfg, fs.WithGetSources(sources), fs.WithMetadataStore(memory.NewReader))
	if err != nil {
		return err
	}
	if err := files.Mount(context.Background(), dir, map[string]string{estargz.TOCJSONDigestAnnotation: desc.Annotations[estargz.TOCJSONDigestAnnotation]}); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}
