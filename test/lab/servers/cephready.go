package servers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

// ready waits until a daemon serves: a monitor is in a quorum, the OSD is active. It asks by the daemon's own socket, which answers at once
// and needs no cluster.
func (c *Ceph) ready(ctx context.Context, p *process) error {
	socket := filepath.Join(c.cfg.Dir, "run", p.name+".asok")
	if p == c.osd {
		return p.until(ctx, "is active", func(ctx context.Context) error { return inState(ctx, socket, "status", "active") })
	}
	return p.until(ctx, "is in a quorum", func(ctx context.Context) error { return inState(ctx, socket, "mon_status", "leader", "peon") })
}

// inState asks a daemon's socket for its state and says by nil that it is one of those wanted.
func inState(ctx context.Context, socket, prefix string, want ...string) error {
	answer, err := askDaemon(ctx, socket, prefix)
	if err != nil {
		return err
	}
	var status struct{ State string }
	if err := json.Unmarshal(answer, &status); err != nil {
		return fmt.Errorf("ask %s: %w", socket, err)
	}
	for _, w := range want {
		if status.State == w {
			return nil
		}
	}
	return fmt.Errorf("its state is %q", status.State)
}

// askDaemon speaks the protocol of Ceph's admin sockets: a command in JSON that ends with a zero byte; the answer is its length in four
// bytes, the first the highest, and itself.
func askDaemon(ctx context.Context, socket, prefix string) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	command, err := json.Marshal(map[string]string{"prefix": prefix, "format": "json"})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(command, 0)); err != nil {
		return nil, err
	}
	var length uint32
	if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
		return nil, fmt.Errorf("ask %s: %w", socket, err)
	}
	if length > 1<<20 {
		return nil, errors.New("ask " + socket + ": the answer is too long")
	}
	answer := make([]byte, length)
	_, err = io.ReadFull(conn, answer)
	return answer, err
}
