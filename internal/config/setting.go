package config

import (
	"slices"
	"strings"
	"time"
)

// setting is one name of the configuration. The flag and the variable follow from the key: run_dir, --run-dir, WINDLASS_RUN_DIR.
type setting struct {
	key   string
	help  string
	value func(*Config) value
	// forerunner names the variables that the service before us read. They are common words, such as PORT, so they count only
	// when there is a listener of the scheme.
	forerunner []string
	scheme     string
}

func (s setting) flag() string { return strings.ReplaceAll(s.key, "_", "-") }

func (s setting) env() string { return "WINDLASS_" + strings.ToUpper(s.key) }

// settings lists all of them, in the order in which they are shown. The schemes come first: others depend on them.
func settings() []setting {
	return slices.Concat(listenSettings(), daemonSettings(), imageSettings(), storageSettings())
}

func listenSettings() []setting {
	return []setting{
		{key: "scheme", help: "listeners: unix, http, https; may be given again",
			value: func(c *Config) value { return (*listValue)(&c.Schemes) }},
		{key: "socket_path", help: "path of the unix socket",
			value: str(func(c *Config) *string { return &c.SocketPath })},
		{key: "host", help: "address of the http listener", forerunner: []string{"HOST"}, scheme: SchemeHTTP,
			value: str(func(c *Config) *string { return &c.Host })},
		{key: "port", help: "port of the http listener; 0 takes a free one", forerunner: []string{"PORT"}, scheme: SchemeHTTP,
			value: num(func(c *Config) *int { return &c.Port })},
		{key: "insecure_http", help: "let other machines call without a client certificate: by http, or by https without tls_ca",
			value: func(c *Config) value { return (*boolValue)(&c.InsecureHTTP) }},
		{key: "tls_host", help: "address of the https listener; empty is host", forerunner: []string{"TLS_HOST"}, scheme: SchemeHTTPS,
			value: str(func(c *Config) *string { return &c.TLSHost })},
		{key: "tls_port", help: "port of the https listener; 0 takes a free one", forerunner: []string{"TLS_PORT"}, scheme: SchemeHTTPS,
			value: num(func(c *Config) *int { return &c.TLSPort })},
		{key: "tls_certificate", help: "file of the https listener's certificate", forerunner: []string{"TLS_CERTIFICATE"}, scheme: SchemeHTTPS,
			value: str(func(c *Config) *string { return &c.TLSCertificate })},
		{key: "tls_key", help: "file of the key of that certificate", forerunner: []string{"TLS_KEY", "TLS_PRIVATE_KEY"}, scheme: SchemeHTTPS,
			value: str(func(c *Config) *string { return &c.TLSKey })},
		{key: "tls_ca", help: "file of the authorities that sign client certificates; empty asks for no certificate",
			forerunner: []string{"TLS_CA", "TLS_CA_CERTIFICATE"}, scheme: SchemeHTTPS,
			value: str(func(c *Config) *string { return &c.TLSCA })},
	}
}

func daemonSettings() []setting {
	return []setting{
		{key: "run_dir", help: "directory of the live state; it must not outlive the boot",
			value: str(func(c *Config) *string { return &c.RunDir })},
		{key: "shim", help: "path of windlass-shim; empty looks beside windlass, then in PATH",
			value: str(func(c *Config) *string { return &c.Shim })},
		{key: "cgroup_parent", help: "cgroup that the containers' cgroups are made in, in each hierarchy; empty is the root",
			value: str(func(c *Config) *string { return &c.CgroupParent })},
		{key: "log_level", help: "error, warn, info, debug or trace",
			value: str(func(c *Config) *string { return &c.LogLevel })},
		{key: "log_format", help: "text or json",
			value: str(func(c *Config) *string { return &c.LogFormat })},
		{key: "create_timeout", help: "longest time for a request that raises something, undoing included",
			value: dur(func(c *Config) *time.Duration { return &c.CreateTimeout })},
		{key: "step_timeout", help: "longest time for one step of it",
			value: dur(func(c *Config) *time.Duration { return &c.StepTimeout })},
		{key: "undo_timeout", help: "longest time for one step of taking down",
			value: dur(func(c *Config) *time.Duration { return &c.UndoTimeout })},
		{key: "stop_timeout", help: "time between asking a container to stop and killing it",
			value: dur(func(c *Config) *time.Duration { return &c.StopTimeout })},
		{key: "systemd_stop_timeout", help: "the same for a container that runs systemd",
			value: dur(func(c *Config) *time.Duration { return &c.SystemdStopTimeout })},
		{key: "shutdown_timeout", help: "time for requests to end when the daemon stops",
			value: dur(func(c *Config) *time.Duration { return &c.ShutdownTimeout })},
		{key: "header_timeout", help: "time for a client to send the head of a request",
			value: dur(func(c *Config) *time.Duration { return &c.HeaderTimeout })},
		{key: "body_timeout", help: "time for a client to send the rest of it",
			value: dur(func(c *Config) *time.Duration { return &c.BodyTimeout })},
		{key: "idle_timeout", help: "time before an idle connection is closed",
			value: dur(func(c *Config) *time.Duration { return &c.IdleTimeout })},
		{key: "max_header", help: "largest head of a request",
			value: func(c *Config) value { return &c.MaxHeader }},
		{key: "max_body", help: "largest body of a request",
			value: func(c *Config) value { return &c.MaxBody }},
		{key: "log_size", help: "size at which a container's log is rotated; one older part is kept",
			value: func(c *Config) value { return &c.LogSize }},
	}
}

func imageSettings() []setting {
	return []setting{
		{key: "uri_ca", help: "file of more authorities to trust when an image is fetched by https",
			value: str(func(c *Config) *string { return &c.URICA })},
		{key: "chunkfs_cache", help: "directory of what has been fetched of chunkfs images; it may outlive the boot, or be a tmpfs",
			value: str(func(c *Config) *string { return &c.ChunkfsCache })},
		{key: "chunkfs_cache_size", help: "most that it may take; 0 chooses by the room that there is",
			value: func(c *Config) value { return &c.ChunkfsCacheSize }},
	}
}

func storageSettings() []setting {
	return []setting{
		{key: "credentials_dir", help: "directory of files with secrets that a definition can name as credential; root's and closed to others",
			value: str(func(c *Config) *string { return &c.CredentialsDir })},
		{key: "rbd_mount_timeout", help: "time for the monitors of Ceph to answer when an image is mapped",
			value: dur(func(c *Config) *time.Duration { return &c.RBDMountTimeout })},
		{key: "rbd_request_timeout", help: "time after which a read or write of an RBD image that is not answered fails; 0 is never",
			value: dur(func(c *Config) *time.Duration { return &c.RBDRequestTimeout })},
	}
}

func str(field func(*Config) *string) func(*Config) value {
	return func(c *Config) value { return (*stringValue)(field(c)) }
}

func num(field func(*Config) *int) func(*Config) value {
	return func(c *Config) value { return (*intValue)(field(c)) }
}

func dur(field func(*Config) *time.Duration) func(*Config) value {
	return func(c *Config) value { return (*durationValue)(field(c)) }
}
