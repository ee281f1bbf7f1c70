package server

import (
	"cmp"
	"time"

	"github.com/windlass-hpc/windlass/swagger/server/listen"
)

// Config is how to serve. Zero values are replaced by the defaults in the comments.
type Config struct {
	Listen  listen.Config
	Metrics *Metrics // a new one; given when steps are to be observed before there is a server

	MaxBody   int64 // bytes of a request's body; 4 MiB
	MaxBodies int64 // bytes of all bodies that are held at a time; 256 MiB
	MaxHeader int   // bytes of a request's header; 64 KiB

	HeaderTimeout time.Duration // until the header is there; 10 s
	BodyTimeout   time.Duration // until the body is there; 30 s
	IdleTimeout   time.Duration // of a connection between requests; 2 min
	AnswerTimeout time.Duration // until the client has taken an answer that is no stream; 1 min
	QueueTimeout  time.Duration // for a request's turn when too many run; 10 s, then 503
	Heartbeat     time.Duration // between signs of life on a stream of events; 15 s

	MaxReads   int // requests that list or show, at a time; 512
	MaxChanges int // requests that raise something, and as many that take down or stop; 256
	MaxStreams int // logs, events, exec and wait; 1024
}

func (c *Config) fill() {
	c.MaxBody = cmp.Or(c.MaxBody, 4<<20)
	c.MaxBodies = cmp.Or(c.MaxBodies, 256<<20)
	c.MaxHeader = cmp.Or(c.MaxHeader, 64<<10)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 10*time.Second)
	c.BodyTimeout = cmp.Or(c.BodyTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, time.Minute)
	c.QueueTimeout = cmp.Or(c.QueueTimeout, 10*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.MaxReads = cmp.Or(c.MaxReads, 512)
	c.MaxChanges = cmp.Or(c.MaxChanges, 256)
	c.MaxStreams = cmp.Or(c.MaxStreams, 1024)
}
