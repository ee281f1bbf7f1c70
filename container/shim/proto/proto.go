// Package proto is what the daemon and a container's shim say to each other over the shim's socket, and the two files that stay when
// one of them is gone. It owns the words, never a socket.
//
// Every message is a line of JSON. A connection begins with a request; requests on it are answered in order. A shim may be older than
// the daemon: fields are only ever added, an operation that the shim does not know is answered with kind unsupported, and Version
// rises only when neither holds.
package proto

import (
	"errors"
	"time"

	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Version is the version of the protocol.
const Version = 1

// Names in the directory of a container.
const (
	SocketName = "shim.sock"   // the shim listens here
	ConfigName = "config.json" // Record; what a daemon must know to clean up when the shim is gone
	StatusName = "status.json" // Status, once Exited: the last words
	LogName    = "log"         // what the container wrote to its console; log.1 is the part before
	OutputName = "shim.log"    // what the shim itself wrote, which is nothing but a crash
)

// ListenerFD is the descriptor of the listening socket in a new shim.
const ListenerFD = 3

// Operations.
const (
	OpStart  = "start"  // Config → Status; the first request a shim gets, and only that
	OpStatus = "status" // → Status
	OpWatch  = "watch"  // → Status, again at every change; the connection is closed after Exited
	OpSignal = "signal" // Signal → empty reply
	OpExec   = "exec"   // Exec with its files → PID (with a terminal its master as file), then Exit. Closing the connection kills the process.
	OpStop   = "stop"   // kill everything; → Status once Exited
)

// Request is what the daemon sends.
type Request struct {
	Version int     `json:"version"`
	Op      string  `json:"op"`
	Config  *Config `json:"config,omitempty"`
	Signal  int     `json:"signal,omitempty"`
	Exec    *Exec   `json:"exec,omitempty"`
}

// Reply is what the shim sends.
type Reply struct {
	Error  *Error  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
	PID    int     `json:"pid,omitempty"`
	Exit   *Exit   `json:"exit,omitempty"`
}

// Error is an error on its way through a socket.
type Error struct {
	Kind fault.Kind `json:"kind"`
	Msg  string     `json:"msg"`
	Hint string     `json:"hint,omitempty"`
}

// NewError packs err.
func NewError(err error) *Error {
	return &Error{Kind: fault.KindOf(err), Msg: err.Error(), Hint: fault.HintOf(err)}
}

// Unpack gives the error back, nil for nil.
func (e *Error) Unpack() error {
	if e == nil {
		return nil
	}
	return &fault.Error{Kind: e.Kind, Msg: e.Msg, Hint: e.Hint, Err: errors.New(e.Msg)}
}

// Identity is whom a process runs as, in numbers of the container.
type Identity struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Bind is a directory or file of the node that the container sees.
type Bind struct {
	Source    string `json:"source"`
	Target    string `json:"target"`
	ReadOnly  bool   `json:"ro,omitempty"`
	Recursive bool   `json:"recursive,omitempty"`
}

// Config is everything that a shim must know to start a container. It travels through the socket only: Env may hold secrets.
type Config struct {
	ID       int64        `json:"id"`
	UUID     string       `json:"uuid"` // 32 hexadecimal digits
	Dir      string       `json:"dir"`  // the container's directory
	Root     string       `json:"root"`
	Hostname string       `json:"hostname"`
	Path     string       `json:"path"` // of the program, inside
	Args     []string     `json:"args"`
	Env      []string     `json:"env"`
	WorkDir  string       `json:"work_dir"`
	User     Identity     `json:"user"`
	Systemd  bool         `json:"systemd,omitempty"`
	Net      bool         `json:"net,omitempty"`
	Time     bool         `json:"time,omitempty"`
	UserNS   bool         `json:"user_ns,omitempty"`
	IDBase   uint32       `json:"id_base,omitempty"` // where the 65536 ids of a user namespace lie on the node
	Binds    []Bind       `json:"binds,omitempty"`
	Cgroup   cgroup.Group `json:"cgroup"`
	LogSize  int64        `json:"log_size"` // bytes of log before it is rotated
}

// Exec is a further process.
type Exec struct {
	Args     []string  `json:"args"`
	Env      []string  `json:"env,omitempty"` // added to that of the container
	WorkDir  string    `json:"work_dir,omitempty"`
	User     *Identity `json:"user,omitempty"` // nil: as the container's first process
	Terminal bool      `json:"terminal,omitempty"`
	Rows     uint16    `json:"rows,omitempty"`
	Columns  uint16    `json:"columns,omitempty"`
}

// Exit is how a process ended.
type Exit struct {
	Code   int    `json:"code"` // 128 + N when signal N ended it
	Signal string `json:"signal,omitempty"`
}

// States of a shim's container.
const (
	Running = "running"
	Paused  = "paused"
	Exited  = "exited"
)

// Status is a container as its shim sees it.
type Status struct {
	State      string    `json:"state"`
	PID        int       `json:"pid,omitempty"`
	Shim       int       `json:"shim,omitempty"` // pid of the shim
	Ready      bool      `json:"ready,omitempty"`
	ExitCode   int       `json:"exit_code"`
	ExitSignal string    `json:"exit_signal,omitempty"`
	OOMKilled  bool      `json:"oom_killed,omitempty"`
	Error      string    `json:"error,omitempty"`
	Started    time.Time `json:"started"`
	Finished   time.Time `json:"finished"`
}

// Record is what stays on disk beside a container, for a daemon that finds its shim gone. It holds no secret.
type Record struct {
	Version int          `json:"version"`
	ID      int64        `json:"id"`
	Cgroup  cgroup.Group `json:"cgroup"`
	Root    string       `json:"root"`
}

// IDs is how many user and group ids a user namespace has.
const IDs = 65536
