//go:build ceph

package rbd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rados"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// DefaultConf is where Ceph's configuration lies when nothing is said.
const DefaultConf = "/etc/ceph/ceph.conf"

// Config says how to reach a cluster. Secrets are not in it: they are in keyrings.
type Config struct {
	Conf     string   // ceph.conf; "" is CEPH_CONF, or DefaultConf when that is there
	User     string   // such as client.admin, which is also what "" is; client. may be left out
	Keyring  string   // file with the user's key; "" is where the configuration says
	Monitors []string // addresses, instead of those of the configuration
	// Timeout is how long the cluster may take to answer, one request or the first; 0 is for ever.
	Timeout time.Duration
	// Env looks up an environment variable; nil is os.LookupEnv.
	Env func(string) (string, bool)
}

// Cluster is a connection to a cluster. Its methods may be called at the same time.
type Cluster struct {
	conn *rados.Conn
	user string
}

// Connect connects to a cluster. Errors say which part of the configuration to look at. When ctx ends it is given up.
func Connect(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Env == nil {
		cfg.Env = os.LookupEnv
	}
	user := "client." + strings.TrimPrefix(cfg.User, "client.")
	if cfg.User == "" {
		user = "client.admin"
	}
	conn, err := rados.NewConnWithClusterAndUser("ceph", user)
	if err != nil {
		return nil, failed(err, "use Ceph as %s", user)
	}
	c := &Cluster{conn: conn, user: user}
	if err := c.configure(cfg); err != nil {
		return nil, err
	}
	connected := make(chan error, 1)
	go func() { connected <- conn.Connect() }()
	select {
	case err = <-connected:
	case <-ctx.Done():
		return nil, ctx.Err() // what goes on ends with the program
	}
	if err != nil {
		return nil, c.unreachable(err, cfg)
	}
	return c, nil
}

// configure tells librados what is known. Later words override earlier ones: the file, CEPH_ARGS, the flags.
func (c *Cluster) configure(cfg Config) error {
	if file := cfg.file(); file != "" {
		if _, err := os.Stat(file); err != nil {
			return fault.Hintf(fault.New(fault.Invalid, "read Ceph's configuration: %w", err), "name the right file: --conf, or CEPH_CONF")
		}
		if err := c.conn.ReadConfigFile(file); err != nil {
			return failed(err, "read Ceph's configuration %s", file)
		}
	}
	if err := c.conn.ParseDefaultConfigEnv(); err != nil {
		return failed(err, "read CEPH_ARGS")
	}
	options := [][2]string{
		{"log_to_stderr", "false"}, {"err_to_stderr", "false"}, {"log_file", ""}, {"admin_socket", ""}, // what matters is in our errors
		{"rbd_cache", "false"}, // what is read back is what the cluster has
	}
	if len(cfg.Monitors) > 0 {
		options = append(options, [2]string{"mon_host", strings.Join(cfg.Monitors, ",")})
	}
	if cfg.Keyring != "" {
		if _, err := os.Stat(cfg.Keyring); err != nil {
			return fault.New(fault.Invalid, "read the keyring: %w", err)
		}
		options = append(options, [2]string{"keyring", cfg.Keyring})
	}
	seconds := strconv.FormatFloat(cfg.Timeout.Seconds(), 'f', 0, 64)
	if cfg.Timeout > 0 && cfg.Timeout < time.Second {
		seconds = "1"
	}
	for _, name := range []string{"client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout"} {
		options = append(options, [2]string{name, seconds})
	}
	for _, o := range options {
		if err := c.conn.SetConfigOption(o[0], o[1]); err != nil {
			return failed(err, "set %s to %q", o[0], o[1])
		}
	}
	return nil
}

// file is the configuration to read, or "".
func (cfg Config) file() string {
	if cfg.Conf != "" {
		return cfg.Conf
	}
	if env, _ := cfg.Env("CEPH_CONF"); env != "" {
		return env
	}
	if _, err := os.Stat(DefaultConf); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return DefaultConf
}

// unreachable explains why there is no connection.
func (c *Cluster) unreachable(err error, cfg Config) error {
	monitors, _ := c.conn.GetConfigOption("mon_host")
	keyring, _ := c.conn.GetConfigOption("keyring")
	if monitors == "" {
		err = fault.New(fault.Invalid, "connect to the cluster: no monitors are known: there is no %s", DefaultConf)
		return fault.Hintf(err, "name the configuration by --conf or CEPH_CONF, or the monitors by --monitors")
	}
	number := errnoOf(err)
	if number == unix.ENOENT || number == unix.EACCES && !hasKey(keyring, c.user) {
		err = fault.New(fault.Invalid, "connect to the cluster at %s: no key of %s was found in %s", monitors, c.user, keyring)
		return fault.Hintf(err, "name the user by --name and the file with its key by --keyring")
	}
	switch number {
	case unix.ETIMEDOUT:
		err = fault.New(fault.Unavailable, "connect to the cluster: no monitor of %s has let %s in within %v", monitors, c.user, cfg.Timeout)
		return fault.Hintf(err, "see that the monitors run and can be reached from here; --timeout gives them longer")
	case unix.EACCES, unix.EPERM:
		err = fault.New(fault.Forbidden, "connect to the cluster at %s: it refuses the key of %s, or knows no such user", monitors, c.user)
		return fault.Hintf(err, "the key was looked for in %s; compare with `ceph auth get %s`", keyring, c.user)
	case unix.EINVAL:
		err = fault.New(fault.Invalid, "connect to the cluster: %q names no monitors, or the keyring %s is none", monitors, keyring)
		return fault.Hintf(err, "write addresses with commas between them, such as 192.0.2.10,192.0.2.11 or [2001:db8::1]:6789")
	}
	return failed(err, "connect to the cluster at %s as %s", monitors, c.user)
}

// hasKey says whether one of some keyrings, with commas between them, speaks of a user. What cannot be read does perhaps.
func hasKey(keyrings, user string) bool {
	for file := range strings.SplitSeq(keyrings, ",") {
		text, err := os.ReadFile(strings.TrimSpace(file))
		if err != nil && !errors.Is(err, os.ErrNotExist) || strings.Contains(string(text), "["+user+"]") {
			return true
		}
	}
	return false
}

// Close ends the connection.
func (c *Cluster) Close() { c.conn.Shutdown() }

// User is who the cluster knows us as, such as client.admin.
func (c *Cluster) User() string { return c.user }
