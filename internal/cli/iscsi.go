package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// iscsiPrefix begins what --image names when it is a LUN of an iSCSI target.
const iscsiPrefix = "iscsi://"

// chapFlags are a user and where its secret comes from.
type chapFlags struct {
	user   string
	secret secretFlags
}

func (c *chapFlags) register(cmd *cobra.Command, prefix, who string) {
	cmd.Flags().StringVar(&c.user, prefix+"user", "", "user by which "+who)
	c.secret.register(cmd, prefix, "the secret of that user")
}

// chap gives the part of a definition, nil when there is no user.
func (c *chapFlags) chap(a *app, cmd *cobra.Command, prefix string) (*models.IscsiChap, error) {
	if c.user == "" {
		if c.secret != (secretFlags{}) {
			return nil, usagef(cmd, "--%suser: a secret is given, and not whose it is", prefix)
		}
		return nil, nil
	}
	secret, err := c.secret.read(a, cmd, prefix)
	if err != nil {
		return nil, err
	}
	if secret == "" && c.secret.credential == "" {
		return nil, usagef(cmd, "give the secret of %s by --%ssecret-file or --%scredential", c.user, prefix, prefix)
	}
	return &models.IscsiChap{User: &c.user, Secret: secret, Credential: c.secret.credential}, nil
}

// iscsiFlags are what there is to say of a LUN beside its target.
type iscsiFlags struct {
	host, initiator        string
	lun                    int64
	discover               bool
	header, data           string
	chap, mutual           chapFlags
	login, recovery        time.Duration
	queueDepth, maxCommand int64
	scheduler              string
}

func (a *app) attachIscsiCommand() *cobra.Command {
	var i iscsiFlags
	var p progressFlags
	cmd := &cobra.Command{
		Use:   "iscsi TARGET --host HOST[:PORT] --initiator IQN",
		Short: "Attach a LUN of an iSCSI target",
		Long: `Log in at an iSCSI target and attach one of its LUNs. Secrets are read from files or are the daemon's credentials, so that no list of
processes shows them. "windlass iscsi discover" lists the targets of a host.`,
		Example: `  windlass attach iscsi iqn.2026-01.org.example:images --host 10.0.0.5 --initiator iqn.2026-01.org.example:n7 --lun 1
  windlass attach iscsi iqn.2026-01.org.example:home --host '[fd00::5]:3260' --initiator iqn.2026-01.org.example:n7 \
    --chap-user n7 --chap-credential iscsi-n7 --data-digest crc32c`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := i.spec(a, cmd, args[0])
			if err != nil {
				return err
			}
			return a.create(cmd, spec, p)
		},
	}
	i.register(cmd)
	p.register(cmd)
	return cmd
}

func (i *iscsiFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&i.host, "host", "", "where the target is, HOST or HOST:PORT (default port 3260)")
	f.StringVar(&i.initiator, "initiator", "", "name of this node for the target, an IQN")
	f.Int64Var(&i.lun, "lun", 0, "number of the LUN (default 0)")
	f.BoolVar(&i.discover, "discover", false, "ask the host where the target is")
	f.StringVar(&i.header, "header-digest", "", "none, crc32c or prefer-crc32c")
	f.StringVar(&i.data, "data-digest", "", "none, crc32c or prefer-crc32c")
	f.DurationVar(&i.login, "login-timeout", 0, "longest time for a login (default 15s)")
	f.DurationVar(&i.recovery, "recovery-timeout", 0, "how long reads and writes wait for a lost connection before they fail, 0 for ever (default 2m)")
	f.Int64Var(&i.queueDepth, "queue-depth", 0, "reads and writes at a time")
	f.Int64Var(&i.maxCommand, "max-commands", 0, "commands of the session at a time")
	f.StringVar(&i.scheduler, "scheduler", "", "I/O scheduler of the device")
	i.chap.register(cmd, "chap-", "this node proves itself to the target")
	i.mutual.register(cmd, "mutual-chap-", "the target proves itself to this node")
}

func (i *iscsiFlags) spec(a *app, cmd *cobra.Command, target string) (*models.Attach, error) {
	f := cmd.Flags()
	if i.host == "" || i.initiator == "" {
		return nil, usagef(cmd, "--host and --initiator: say where the target is, and who this node is to it")
	}
	host, port, err := hostPort(i.host)
	if err != nil {
		return nil, usageError{fmt.Errorf("--host: %w", err), cmd.CommandPath()}
	}
	part := &models.AttachIscsi{Target: &target, Host: &host, Port: port, Initiator: &i.initiator, Discover: i.discover,
		HeaderDigest: models.IscsiDigest(i.header), DataDigest: models.IscsiDigest(i.data), LoginTimeout: seconds(i.login),
		Lun: said(f, "lun", i.lun), RecoveryTimeout: said(f, "recovery-timeout", seconds(i.recovery)),
		QueueDepth: said(f, "queue-depth", i.queueDepth), MaxComands: said(f, "max-commands", i.maxCommand), Scheduler: said(f, "scheduler", i.scheduler)}
	if part.Chap, err = i.chap.chap(a, cmd, "chap-"); err != nil {
		return nil, err
	}
	if part.MutualChap, err = i.mutual.chap(a, cmd, "mutual-chap-"); err != nil {
		return nil, err
	}
	return &models.Attach{Kind: models.AttachKindIscsi, Iscsi: part}, nil
}

// iscsiImage reads what --image names: iscsi://HOST[:PORT]/TARGET[/LUN]?initiator=IQN&OPTION=VALUE.
func iscsiImage(image string) (*models.Attach, error) {
	name, query, err := imageQuery(strings.TrimPrefix(image, iscsiPrefix))
	if err != nil {
		return nil, err
	}
	words := strings.Split(name, "/")
	if len(words) < 2 || len(words) > 3 || words[1] == "" {
		return nil, fmt.Errorf("%q does not say which LUN of which target: write iscsi://HOST[:PORT]/TARGET/LUN?initiator=IQN", image)
	}
	part := &models.AttachIscsi{Target: &words[1], Initiator: ref(query.one("initiator"))}
	host, port, err := hostPort(words[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	part.Host, part.Port = &host, port
	if len(words) == 3 {
		lun, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil || lun < 0 {
			return nil, fmt.Errorf("%s: %q is no number of a LUN", image, words[2])
		}
		part.Lun = &lun
	}
	if part.Initiator == nil {
		return nil, fmt.Errorf("%q does not say who this node is to the target: add ?initiator=IQN", image)
	}
	if user := query.one("user"); user != "" {
		part.Chap = &models.IscsiChap{User: &user, Credential: query.one("credential")}
	}
	if err := setOptions(part, query.words(), "host", "port", "target", "lun", "initiator"); err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	return &models.Attach{Kind: models.AttachKindIscsi, Iscsi: part}, nil
}

func (a *app) iscsiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "iscsi",
		Short:   "Ask iSCSI hosts",
		Long:    "Ask an iSCSI host what it has. This needs no daemon: the program itself speaks with the host.",
		Example: `  windlass iscsi discover 10.0.0.5 --initiator iqn.2026-01.org.example:n7`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.iscsiDiscoverCommand())
	return cmd
}

// discoverTimeout bounds a discovery when --timeout does not.
const discoverTimeout = 15 * time.Second

// foundTarget is a target as it is answered.
type foundTarget struct {
	Target  string   `json:"target"`
	Portals []string `json:"portals"`
}

func (a *app) iscsiDiscoverCommand() *cobra.Command {
	var initiator string
	var chap, mutual chapFlags
	cmd := &cobra.Command{
		Use:   "discover HOST[:PORT]",
		Short: "List the targets of a host",
		Long:  "Log in at an iSCSI host for discovery and list its targets, each with the places where it can be reached.",
		Example: `  windlass iscsi discover 10.0.0.5 --initiator iqn.2026-01.org.example:n7
  windlass iscsi discover '[fd00::5]:3260' --initiator iqn.2026-01.org.example:n7 --chap-user n7 --chap-secret-file secret -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if initiator == "" {
				return usagef(cmd, "--initiator: say who this node is to the host")
			}
			auth, err := discoveryAuth(a, cmd, &chap, &mutual)
			if err != nil {
				return err
			}
			host, port, err := hostPort(args[0])
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			if port == 0 {
				port = login.DefaultPort
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), discoverTimeout)
			defer cancel()
			found, err := login.Discover(ctx, net.JoinHostPort(host, strconv.FormatInt(port, 10)), initiator, auth)
			if err != nil {
				return storeError(err)
			}
			return a.printTargets(found)
		},
	}
	f := cmd.Flags()
	f.StringVar(&initiator, "initiator", "", "name of this node for the host, an IQN")
	chap.registerHere(cmd, "chap-", "this node proves itself to the host")
	mutual.registerHere(cmd, "mutual-chap-", "the host proves itself to this node")
	return cmd
}

// registerHere is register for what is done without the daemon, whose credentials are its own.
func (c *chapFlags) registerHere(cmd *cobra.Command, prefix, who string) {
	cmd.Flags().StringVar(&c.user, prefix+"user", "", "user by which "+who)
	cmd.Flags().StringVar(&c.secret.file, prefix+"secret-file", "", "file with the secret of that user; - is stdin")
}

func discoveryAuth(a *app, cmd *cobra.Command, chap, mutual *chapFlags) (auth login.Auth, err error) {
	secret := func(c *chapFlags, prefix string) (*login.Secret, error) {
		part, err := c.chap(a, cmd, prefix)
		if err != nil || part == nil {
			return nil, err
		}
		return &login.Secret{User: *part.User, Secret: part.Secret}, nil
	}
	if auth.CHAP, err = secret(chap, "chap-"); err != nil {
		return auth, err
	}
	auth.Mutual, err = secret(mutual, "mutual-chap-")
	return auth, err
}

func (a *app) printTargets(found []login.Target) error {
	targets := []foundTarget{}
	for _, t := range found {
		one := foundTarget{Target: t.Name}
		for _, p := range t.Portals {
			one.Portals = append(one.Portals, p.Address())
		}
		targets = append(targets, one)
	}
	return a.print(targets, func(w io.Writer) error {
		t := &table{head: []string{"TARGET", "PORTALS"}}
		for _, one := range targets {
			t.add(one.Target, strings.Join(one.Portals, " "))
		}
		return t.write(w)
	})
}
