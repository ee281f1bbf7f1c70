package serve

import "github.com/windlass-hpc/windlass/internal/fault"

// Abandon gives up the reads of a mount's device file that wait for an origin, and those that come. EROFS is being taken down: it waits for
// what readers that have been killed were about to read, and nobody else does. Of an ID without a device file: NotFound.
func (s *server) Abandon(id string) error {
	f := s.devices.named(id)
	s.dataTurn.Lock()
	data := s.data
	s.dataTurn.Unlock()
	if f == nil || data == nil {
		return fault.New(fault.NotFound, "mount %.80q has no device file", id)
	}
	data.abandon(f.node)
	s.log.WithField("mount", id).Info("reads of a mount that is taken down are given up")
	return nil
}

// abandon is for good: no node has the number of an earlier one.
func (c *conn) abandon(node uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned[node] = true
	for _, r := range c.reads {
		if r.node == node {
			r.giveUp()
		}
	}
}
