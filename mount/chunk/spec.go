package chunk

import (
	"fmt"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxOrigins is how many origins a mount may have: see swagger.yaml.
const maxOrigins = 16

// parse checks a spec and gives what the server is asked for, without what only Mount knows. Its errors are of kind Invalid, name the
// field, and repeat no secret.
func parse(spec *models.Mount) (control.Open, error) {
	if spec == nil || spec.Chunkfs == nil {
		return control.Open{}, fault.New(fault.Invalid, "chunkfs is missing: a mount of kind chunkfs says in it which image, and where from")
	}
	s := spec.Chunkfs
	o := control.Open{Digest: s.Digest, Pin: s.Pin}
	for _, take := range []func(*models.MountChunkfs, *control.Open) error{parseImage, parseOrigins, parseWords} {
		if err := take(s, &o); err != nil {
			return control.Open{}, err
		}
	}
	if s.Bandwidth != nil {
		if o.Bandwidth = *s.Bandwidth; o.Bandwidth < 0 {
			return control.Open{}, fault.New(fault.Invalid, "chunkfs.bandwidth %d is less than nothing", o.Bandwidth)
		}
	}
	return o, nil
}

func parseImage(s *models.MountChunkfs, o *control.Open) error {
	if s.Image == nil || *s.Image == "" {
		return fault.New(fault.Invalid, "chunkfs.image is missing: give a tag of the store, or the digest of an image")
	}
	o.Image = *s.Image
	if s.Digest != "" {
		if _, err := format.ParseDigest(s.Digest); err != nil {
			return fault.New(fault.Invalid, "chunkfs.digest: %w", err)
		}
	}
	check := format.CheckTag
	if isDigest(o.Image) {
		check = func(text string) error { _, err := format.ParseDigest(text); return err }
	}
	if err := check(o.Image); err != nil {
		return fault.New(fault.Invalid, "chunkfs.image: %w", err)
	}
	if isDigest(o.Image) && s.Digest != "" && s.Digest != o.Image {
		return fault.New(fault.Invalid, "chunkfs.image and chunkfs.digest are two different digests")
	}
	return nil
}

func isDigest(image string) bool {
	return strings.HasPrefix(image, "blake3:") || strings.HasPrefix(image, "sha256:")
}

func parseOrigins(s *models.MountChunkfs, o *control.Open) error {
	if n := len(s.Origins); n == 0 || n > maxOrigins {
		return fault.New(fault.Invalid, "chunkfs.origins has %d entries: give 1 to %d places that have the store", n, maxOrigins)
	}
	for i, from := range s.Origins {
		field := fmt.Sprintf("chunkfs.origins.%d", i)
		if from == nil || from.URL == nil || *from.URL == "" {
			return fault.New(fault.Invalid, "%s.url is missing", field)
		}
		c := origin.Config{URL: *from.URL, Username: from.Username, Password: from.Password, Token: from.Token, CA: from.Ca}
		if err := c.Check(field); err != nil {
			return err
		}
		o.Origins = append(o.Origins, c)
	}
	return nil
}

// parseWords takes what is one word of several.
func parseWords(s *models.MountChunkfs, o *control.Open) error {
	mode, err := word("mode", s.Mode, control.Auto, control.Direct, control.Lazy, control.FUSE)
	if err != nil {
		return err
	}
	prefetch, err := word("prefetch", s.Prefetch, control.PrefetchTrace, control.PrefetchNone, control.PrefetchAll)
	if err != nil {
		return err
	}
	verify, err := word("verify", s.Verify, "on", "off")
	if err != nil {
		return err
	}
	o.Mode, o.Prefetch, o.Verify, o.Role = mode, prefetch, verify == "on", "boot"
	if s.Role != nil && *s.Role != "" {
		o.Role = *s.Role
	}
	if err := format.CheckRole(o.Role); err != nil {
		return fault.New(fault.Invalid, "chunkfs.role: %w", err)
	}
	return nil
}

// word holds a field to its words; the first is meant when nothing is said.
func word[W ~string](field string, given *string, words ...W) (W, error) {
	if given == nil || *given == "" {
		return words[0], nil
	}
	if slices.Contains(words, W(*given)) {
		return W(*given), nil
	}
	return "", fault.New(fault.Invalid, "chunkfs.%s %.50q is none of %v", field, *given, words)
}
