package cli

import (
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// nfsPrefix begins what --image names when it lies on an NFS server.
const nfsPrefix = "nfs:"

func (a *app) mountNfsCommand() *cobra.Command {
	var (
		version string
		ro      bool
		options []string
	)
	cmd := a.mountKind(&cobra.Command{
		Use:   "nfs HOST:/PATH",
		Short: "Mount an export of an NFS server",
		Long: `Mount an export of an NFS server. Options are those of nfs(5). A server that falls silent keeps those waiting who read the mount, not
the daemon: the mount shows as stuck, and "windlass rm --force" takes it away.`,
		Example: `  windlass mount nfs head:/images/debian --ro
  windlass mount nfs '[fd00::5]:/home' --version 4.2 --option nconnect=4 --option soft,timeo=50`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string) (*models.Mount, error) {
		part, err := parseNfs(args[0])
		if err != nil {
			return nil, usageError{err, cmd.CommandPath()}
		}
		f := cmd.Flags()
		part.Version, part.Ro, part.Options = said(f, "version", version), said(f, "ro", ro), options
		return &models.Mount{Kind: models.MountKindNfs, Nfs: part}, nil
	})
	f := cmd.Flags()
	f.StringVar(&version, "version", "", "3, 4.0, 4.1 or 4.2; unsaid, the best that both sides have")
	f.BoolVar(&ro, "ro", false, "read-only")
	f.StringArrayVar(&options, "option", nil, "option of nfs(5), such as soft or nconnect=4; may be given again")
	return cmd
}

// parseNfs reads HOST:/PATH. An IPv6 address has brackets.
func parseNfs(text string) (*models.MountNfs, error) {
	host, dir, ok := strings.Cut(text, ":/")
	if bare, closed := strings.CutPrefix(host, "["); closed {
		host = strings.TrimSuffix(bare, "]")
	}
	if !ok || host == "" {
		return nil, fmt.Errorf("%q does not say which export of which server: write HOST:/PATH, an IPv6 address in brackets", text)
	}
	dir = "/" + dir
	return &models.MountNfs{Host: &host, Path: &dir}, nil
}

// nfsImage reads what --image names: nfs:HOST:/PATH?version=4.2&OPTION=VALUE. A path that ends as an image file does is one, which is
// attached by a loop device; any other is a directory with the tree.
func nfsImage(image, fs string) (*models.Mount, error) {
	name, query, err := imageQuery(strings.TrimPrefix(image, nfsPrefix))
	if err != nil {
		return nil, err
	}
	part, err := parseNfs(name)
	if err != nil {
		return nil, err
	}
	part.Version, part.Ro, part.Options = ref(query.one("version")), ref(true), query.words()
	m := &models.Mount{Kind: models.MountKindNfs, Nfs: part}
	if fs == "" {
		fs = fsTypeOf(*part.Path)
	}
	if fs == "" {
		return m, nil
	}
	dir, file := path.Split(*part.Path)
	part.Path = ref(path.Clean(dir))
	return attachMount(&models.Attach{Kind: models.AttachKindLoopback, Loopback: &models.AttachLoopback{
		Base: models.BaseMount.Pointer(), Path: &file, Mount: m}}, fs, nil), nil
}
