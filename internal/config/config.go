// Package config is the daemon's configuration: one struct, filled from defaults, a YAML file, the environment and flags, each
// stronger than the one before.
//
// It owns the names and the rules of every setting, and reports everything that is wrong with them at once. It never opens a listener
// or makes a directory.
package config

import (
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/internal/rundir"
)

// DefaultFile is read when it is there and no other is named.
const DefaultFile = "/etc/windlass/windlass.yaml"

// DefaultSocket is where the daemon listens, and the client calls, when nobody says otherwise.
const DefaultSocket = rundir.Default + "/api.sock"

// The schemes that a listener can have.
const (
	SchemeUnix  = "unix"
	SchemeHTTP  = "http"
	SchemeHTTPS = "https"
)

// Config is how the daemon runs.
type Config struct {
	Schemes    []string // the listeners: unix, http, https
	SocketPath string

	Host         string // of the http listener
	Port         int    // 0 takes a free one
	InsecureHTTP bool   // let callers that cannot be told apart in from other machines

	TLSHost        string // empty is Host
	TLSPort        int
	TLSCertificate string // PEM file
	TLSKey         string // PEM file
	TLSCA          string // PEM file of who signs client certificates; empty asks for none

	RunDir       string
	Shim         string // empty is windlass-shim beside the program, else in PATH
	CgroupParent string // cgroup below which all of ours lie; empty is the root cgroup

	LogLevel  string // as logrus names them
	LogFormat string // text or json

	CreateTimeout      time.Duration // of a request that raises something, undoing included
	StepTimeout        time.Duration // of one driver call that raises
	UndoTimeout        time.Duration // of one driver call that takes down
	StopTimeout        time.Duration // grace of a container that sets none
	SystemdStopTimeout time.Duration // the same, of one that runs systemd
	ShutdownTimeout    time.Duration // for requests to end when the daemon stops
	HeaderTimeout      time.Duration // for a client to send the head of a request
	BodyTimeout        time.Duration // for a client to send the rest of it
	IdleTimeout        time.Duration // before an idle connection is closed

	MaxHeader Size // of a request
	MaxBody   Size // of a request
	LogSize   Size // of a container's log before it is rotated; one older part is kept

	URICA string // PEM file of more authorities to trust when an image is fetched by https

	ChunkfsCache     string // directory of the chunks of chunkfs images, which it keeps across boots
	ChunkfsCacheSize Size   // what they may take; 0 lets the server choose by the room that there is

	CredentialsDir    string        // directory of the secrets that definitions name; root's and closed to others
	RBDMountTimeout   time.Duration // for the monitors to answer when an RBD image is mapped; whole seconds
	RBDRequestTimeout time.Duration // for a read or write of an RBD image to be answered before it fails, 0 for never; whole seconds
}

// Default is the configuration when nobody says anything.
func Default() Config {
	return Config{
		Schemes:            []string{SchemeUnix},
		SocketPath:         DefaultSocket,
		Host:               "127.0.0.1",
		Port:               8080,
		TLSPort:            8443,
		RunDir:             rundir.Default,
		LogLevel:           "info",
		LogFormat:          "text",
		CreateTimeout:      50 * time.Second,
		StepTimeout:        45 * time.Second,
		UndoTimeout:        15 * time.Second,
		StopTimeout:        10 * time.Second,
		SystemdStopTimeout: 90 * time.Second,
		ShutdownTimeout:    10 * time.Second,
		HeaderTimeout:      10 * time.Second,
		BodyTimeout:        30 * time.Second,
		IdleTimeout:        2 * time.Minute,
		MaxHeader:          64 << 10,
		MaxBody:            4 << 20,
		LogSize:            10 << 20,
		ChunkfsCache:       "/var/cache/windlass",
		CredentialsDir:     "/etc/windlass/credentials",
		RBDMountTimeout:    30 * time.Second,
		RBDRequestTimeout:  2 * time.Minute,
	}
}

// Listens says whether there is a listener of the scheme.
func (c *Config) Listens(scheme string) bool { return slices.Contains(c.Schemes, scheme) }
