package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// chunkfsPrefix begins what --image names when it is a chunkfs image: chunkfs+http://HOST/STORE#TAG.
const chunkfsPrefix = "chunkfs+"

// chunkfsFlags are what there is to say of a chunkfs image beside which one it is.
type chunkfsFlags struct {
	origins                       []string
	digest, mode, verify          string
	prefetch, role                string
	bandwidth                     sizeFlag
	pin                           bool
	username, password, token, ca string // password, token and ca are files
}

func (a *app) mountChunkfsCommand() *cobra.Command {
	var c chunkfsFlags
	cmd := a.mountKind(&cobra.Command{
		Use:   "chunkfs STORE#IMAGE",
		Short: "Mount an image that is fetched while it is used",
		Long: `Mount a chunkfs image from a store: a web server (http, https) or a directory of the node. IMAGE is a tag of the store or the digest
of an image. What is read is fetched, verified and kept in the node's cache; a second store with the same images takes over when the first
one fails. Passwords and tokens are read from files, so that no list of processes shows them.`,
		Example: `  windlass mount chunkfs http://head/images#debian/12
  windlass mount chunkfs /srv/images#debian/12 --prefetch all
  windlass mount chunkfs https://a/images#node --origin https://b/images --token-file /etc/windlass/token`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string) (*models.Mount, error) {
		m, err := chunkfsMount(args[0])
		if err != nil {
			return nil, usageError{err, cmd.CommandPath()}
		}
		if err := c.fill(cmd, m.Chunkfs); err != nil {
			return nil, err
		}
		daemon, err := a.connect()
		if err != nil {
			return nil, err
		}
		return m, a.placeStores(daemon, m.Chunkfs)
	})
	f := cmd.Flags()
	f.StringArrayVar(&c.origins, "origin", nil, "another store that has the image; may be given again")
	f.StringVar(&c.digest, "digest", "", "what the tag must turn out to be, as blake3:HEX or sha256:HEX")
	f.StringVar(&c.mode, "mode", "", "auto, direct, lazy or fuse (default auto)")
	f.StringVar(&c.verify, "verify", "", "on, or off to take chunks as they come (default on)")
	f.StringVar(&c.prefetch, "prefetch", "", "none, trace or all (default trace)")
	f.StringVar(&c.role, "role", "", "name of the recorded trace (default boot)")
	f.Var(&c.bandwidth, "bandwidth", "bytes a second that fetching the rest may take; unsaid, no limit")
	f.BoolVar(&c.pin, "pin", false, "keep it in the cache also when nothing has it mounted")
	f.StringVar(&c.username, "username", "", "user at the stores, with --password-file")
	f.StringVar(&c.password, "password-file", "", "file with the password")
	f.StringVar(&c.token, "token-file", "", "file with a bearer token")
	f.StringVar(&c.ca, "ca-file", "", "file of more authorities to trust (PEM)")
	return cmd
}

// chunkfsMount makes the mount of STORE#IMAGE.
func chunkfsMount(text string) (*models.Mount, error) {
	store, image, ok := strings.Cut(strings.TrimPrefix(text, chunkfsPrefix), "#")
	if !ok || store == "" || image == "" {
		return nil, fmt.Errorf("%q does not say which image of which store: write STORE#IMAGE, such as http://HOST/images#debian/12", text)
	}
	return &models.Mount{Kind: models.MountKindChunkfs, Chunkfs: &models.MountChunkfs{
		Image: &image, Origins: []*models.ChunkfsOrigin{{URL: &store}}}}, nil
}

// placeStores makes the paths of stores absolute.
func (a *app) placeStores(daemon *api, part *models.MountChunkfs) error {
	for _, o := range part.Origins {
		if strings.Contains(*o.URL, "://") {
			continue
		}
		path, err := a.path(daemon, *o.URL)
		if err != nil {
			return err
		}
		o.URL = &path
	}
	return nil
}

// fill adds what the flags say.
func (c *chunkfsFlags) fill(cmd *cobra.Command, part *models.MountChunkfs) error {
	for _, url := range c.origins {
		part.Origins = append(part.Origins, &models.ChunkfsOrigin{URL: &url})
	}
	part.Digest, part.Pin = c.digest, c.pin
	f := cmd.Flags()
	part.Mode, part.Verify = said(f, "mode", c.mode), said(f, "verify", c.verify)
	part.Prefetch, part.Role = said(f, "prefetch", c.prefetch), said(f, "role", c.role)
	part.Bandwidth = said(f, "bandwidth", int64(c.bandwidth))
	for _, secret := range []struct {
		file string
		set  func(*models.ChunkfsOrigin, string)
	}{
		{c.password, func(o *models.ChunkfsOrigin, s string) { o.Password = strings.TrimRight(s, "\r\n") }},
		{c.token, func(o *models.ChunkfsOrigin, s string) { o.Token = strings.TrimSpace(s) }},
		{c.ca, func(o *models.ChunkfsOrigin, s string) { o.Ca = s }},
	} {
		if secret.file == "" {
			continue
		}
		text, err := os.ReadFile(secret.file)
		if err != nil {
			return usageError{err, cmd.CommandPath()}
		}
		for _, o := range part.Origins {
			secret.set(o, string(text))
		}
	}
	for _, o := range part.Origins {
		o.Username = c.username
	}
	return nil
}

// chunkfsFacts say how the image is mounted and how much of it is here.
func chunkfsFacts(part *models.MountChunkfs) string {
	s := part.Status
	switch {
	case s == nil || s.Asked == nil:
		return ""
	case s.Error != "":
		return " (" + s.Mode + ", server does not answer)"
	case s.Complete || s.Size == 0:
		return " (" + s.Mode + ", complete)"
	}
	return fmt.Sprintf(" (%s, %s of %s here)", s.Mode, units.BytesSize(float64(s.Cached)), units.BytesSize(float64(s.Size)))
}

// chunkfsSource is the image as chunkfsMount reads it.
func chunkfsSource(part *models.MountChunkfs) string {
	store := ""
	if len(part.Origins) > 0 {
		store = deref(part.Origins[0].URL)
	}
	return store + "#" + deref(part.Image)
}
