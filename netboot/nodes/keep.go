package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/windlass-hpc/windlass/internal/durable"
)

// maxFile bounds what is read back: some hundred thousand nodes.
const maxFile = 256 << 20

// Save writes how far the nodes have come, when that changed. It is for looking at, so a crash may cost the last seconds.
func (r *Registry) Save(ctx context.Context, path string) error {
	r.mu.Lock()
	changed := r.dirty
	r.dirty = false
	r.mu.Unlock()
	if !changed {
		return nil
	}
	data, err := json.Marshal(r.All())
	if err == nil {
		err = durable.WriteFile(ctx, path, append(data, '\n'), 0o644)
	}
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return fmt.Errorf("keep how far the nodes have come: %w", err)
	}
	return nil
}

// Load takes over what an earlier server knew. Names and groups stay those of the configuration; who is listed no more is known as one that
// is not. A file that is not there is no error; one that is damaged costs what it said.
func (r *Registry) Load(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Size() > maxFile {
		return fmt.Errorf("%s has %d bytes and is left out", path, st.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all []Status
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s is damaged and left out: %w", path, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		r.restore(s)
	}
	return nil
}

func (r *Registry) restore(s Status) {
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || mac.String() != s.MAC {
		return
	}
	n := r.find(Seen{MAC: s.MAC})
	s.Listed, s.Name, s.Group = n.s.Listed, n.s.Name, n.s.Group
	if s.Stages == nil {
		s.Stages = []Entry{}
	}
	addr, err := netip.ParseAddr(s.IP)
	s.IP = n.s.IP
	n.s = s
	if err == nil && !n.addr.IsValid() && r.byAddr[addr] == nil {
		r.bind(n, addr)
	}
}
