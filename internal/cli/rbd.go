package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// rbdPrefix begins what --image names when it is an RBD image.
const rbdPrefix = "rbd:"

// rbdFlags are what there is to say of an RBD image beside which one it is.
type rbdFlags struct {
	monitors []string
	name     string
	ro       bool
	secret   secretFlags
	options  []string
}

func (a *app) attachRbdCommand() *cobra.Command {
	var r rbdFlags
	var p progressFlags
	cmd := &cobra.Command{
		Use:   "rbd POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]",
		Short: "Attach an image of a Ceph cluster",
		Long: `Map an image of a Ceph cluster by the kernel. The secret of the user is read from a file or is one of the daemon's credentials, so that
no list of processes shows it. What has no flag is an --option, by the name that it has in a definition: exclusive, queue_depth=128.`,
		Example: `  windlass attach rbd rbd/debian@v1 --monitor 10.0.0.1,10.0.0.2 --name node --credential ceph-node
  windlass attach rbd rbd/blue/home --monitor mon.example:3300 --secret-file key --option ms_mode=secure --option exclusive
  ceph auth get-key client.node | windlass attach rbd rbd/debian --monitor 10.0.0.1 --name node --ro --secret-file -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := r.spec(a, cmd, args[0])
			if err != nil {
				return err
			}
			return a.create(cmd, spec, p)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&r.monitors, "monitor", nil, "monitor of the cluster, ADDRESS[:PORT]; may be given again, or with commas")
	f.StringVar(&r.name, "name", "", "Ceph user without client. (default admin)")
	f.BoolVar(&r.ro, "ro", false, "read-only; unsaid, what mounts it decides, and a snapshot always is")
	f.StringArrayVar(&r.options, "option", nil, "further option, NAME or NAME=VALUE; may be given again")
	r.secret.register(cmd, "", "the user's key or keyring")
	p.register(cmd)
	return cmd
}

func (r *rbdFlags) spec(a *app, cmd *cobra.Command, image string) (*models.Attach, error) {
	part, err := parseRbd(image)
	if err != nil {
		return nil, usageError{err, cmd.CommandPath()}
	}
	if len(r.monitors) == 0 {
		return nil, usagef(cmd, "--monitor: give at least one monitor of the cluster")
	}
	part.Monitors = r.monitors
	if err := setOptions(part.Options, r.options, "name", "namespace", "ro"); err != nil {
		return nil, usageError{fmt.Errorf("--option: %w", err), cmd.CommandPath()}
	}
	part.Options.Name, part.Options.Credential = r.name, r.secret.credential
	if part.Options.Ro = r.ro; cmd.Flags().Changed("ro") && !r.ro {
		part.Options.Rw = true
	}
	if part.Options.Secret, err = r.secret.read(a, cmd, ""); err != nil {
		return nil, err
	}
	return rbdAttach(part), nil
}

func rbdAttach(part *models.AttachRbd) *models.Attach {
	if *part.Options == (models.RbdOptions{}) {
		part.Options = nil
	}
	return &models.Attach{Kind: models.AttachKindRbd, Rbd: part}
}

// parseRbd reads POOL[/NAMESPACE]/IMAGE[@SNAPSHOT], as `rbd` writes it.
func parseRbd(text string) (*models.AttachRbd, error) {
	name, snapshot, at := strings.Cut(text, "@")
	words := strings.Split(name, "/")
	wrong := at && snapshot == "" || len(words) < 2 || len(words) > 3
	for _, w := range words {
		wrong = wrong || w == ""
	}
	if wrong {
		return nil, fmt.Errorf("%q does not say which image of which pool: write POOL/IMAGE, POOL/IMAGE@SNAPSHOT or POOL/NAMESPACE/IMAGE", text)
	}
	part := &models.AttachRbd{Pool: &words[0], Image: &words[len(words)-1], Snapshot: snapshot, Options: &models.RbdOptions{}}
	if len(words) == 3 {
		part.Options.Namespace = words[1]
	}
	return part, nil
}

// rbdImage reads what --image names: rbd:POOL/IMAGE@SNAPSHOT?monitor=A,B&OPTION=VALUE.
func rbdImage(image string) (*models.Attach, error) {
	name, query, err := imageQuery(strings.TrimPrefix(image, rbdPrefix))
	if err != nil {
		return nil, err
	}
	part, err := parseRbd(name)
	if err != nil {
		return nil, err
	}
	for _, m := range query.take("monitor") {
		part.Monitors = append(part.Monitors, strings.Split(m, ",")...)
	}
	if len(part.Monitors) == 0 {
		return nil, fmt.Errorf("%q names no monitor: add ?monitor=ADDRESS", image)
	}
	part.Options.Credential = query.one("credential")
	if err := setOptions(part.Options, query.words(), "namespace"); err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	return rbdAttach(part), nil
}

// rbdSource is the image as parseRbd reads it.
func rbdSource(part *models.AttachRbd) string {
	words := []string{deref(part.Pool), deref(part.Image)}
	if part.Options != nil && part.Options.Namespace != "" {
		words = []string{deref(part.Pool), part.Options.Namespace, deref(part.Image)}
	}
	text := strings.Join(words, "/")
	if part.Snapshot != "" {
		text += "@" + part.Snapshot
	}
	return text
}
