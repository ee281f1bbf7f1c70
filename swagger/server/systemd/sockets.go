package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Socket is a listener that systemd opened, with its FileDescriptorName.
type Socket struct {
	Name     string
	Listener net.Listener
}

// Sockets takes over what systemd passed; none is no error. It may be called once: the environment is cleared, so that no child takes
// them for its own.
func Sockets() ([]Socket, error) {
	var out []Socket
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		name := f.Name()
		f.Close() // FileListener has a descriptor of its own
		if err != nil {
			for _, s := range out {
				s.Listener.Close()
			}
			return nil, fmt.Errorf("take over socket %s from systemd: %w", name, err)
		}
		out = append(out, Socket{name, l})
	}
	return out, nil
}
