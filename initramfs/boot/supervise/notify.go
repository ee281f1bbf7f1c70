package supervise

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// signs are what the daemon notifies; see sd_notify(3).
type signs struct{ ready, alive chan struct{} }

// read passes on what is notified. All lives of the daemon share the socket.
func (s signs) read(notify *net.UnixConn) {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			to := map[string]chan struct{}{"READY=1": s.ready, "WATCHDOG=1": s.alive}[strings.TrimSpace(line)]
			select {
			case to <- struct{}{}: // nil, for other words, never takes anything
			default:
			}
		}
	}
}

func (d *Daemon) listen() (*net.UnixConn, error) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(d.Notify), 0o700), os.RemoveAll(d.Notify)); err != nil {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.Notify, Net: "unixgram"})
}
