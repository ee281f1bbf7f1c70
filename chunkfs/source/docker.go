package source

import (
	"encoding/json"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// dockerImage is one in the manifest.json of a docker archive.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// chooseDocker is choose for a docker archive.
func (c *chooser) chooseDocker() ([]layer, error) {
	raw, err := c.document(dockerManifest, -1, v1.Hash{})
	if err != nil {
		return nil, err
	}
	var all, fit []dockerImage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, damaged("%s cannot be read: %w", dockerManifest, err)
	}
	var names []string
	for _, d := range all {
		if c.named(append(d.RepoTags, "sha256:"+configHex(d.Config))) {
			fit = append(fit, d)
		}
		names = append(names, clip(strings.Join(d.RepoTags, " ")))
	}
	if len(fit) != 1 {
		kind := fault.Invalid
		if len(fit) == 0 {
			kind = fault.NotFound
		}
		return nil, fault.Hintf(fault.New(kind, "it has %d images %q; these are there: %s", len(fit), c.ref, clip(strings.Join(names, ", "))), "choose one with --ref")
	}
	return c.dockerLayers(fit[0])
}

func (c *chooser) dockerLayers(d dockerImage) ([]layer, error) {
	var digest v1.Hash
	if hex := configHex(d.Config); len(hex) == 64 {
		digest = v1.Hash{Algorithm: "sha256", Hex: hex}
	}
	raw, err := c.document(d.Config, -1, digest)
	if err != nil {
		return nil, err
	}
	diffs, err := c.config(raw, len(d.Layers))
	if err != nil {
		return nil, err
	}
	var layers []layer
	for i, name := range d.Layers {
		layers = append(layers, layer{path: name, diffID: diffs[i], size: -1})
	}
	return layers, nil
}

// configHex is the digest that the name of a configuration is.
func configHex(name string) string {
	return strings.TrimSuffix(name[strings.LastIndexByte(name, '/')+1:], ".json")
}
