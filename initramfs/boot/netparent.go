package boot

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/network"
	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
)

// networkProcess is the network's process as init sees it. It is started again when it ends; addresses and routes stay meanwhile.
type networkProcess struct {
	say    func(format string, args ...any)
	reaper *supervise.Reaper
	cfg    network.Config

	mu    sync.Mutex
	pid   int
	mac   net.HardwareAddr
	got   network.Settings
	isUp  bool          // got is what is so, and ready is closed
	ready chan struct{} // closed when the first device has an address
	done  chan struct{} // closed when it has ended for good
}

// startNetwork starts it and keeps it until ctx ends.
func startNetwork(ctx context.Context, r *supervise.Reaper, cfg network.Config, say func(format string, args ...any)) *networkProcess {
	p := &networkProcess{say: say, reaper: r, cfg: cfg, ready: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, 30*time.Second) {
			began := time.Now()
			err := p.once(ctx)
			if ctx.Err() != nil {
				return
			}
			if time.Since(began) > time.Minute {
				pause = time.Second
			}
			p.say("the process that looks after the network: %v; it is started again in %.0f s", err, pause.Seconds())
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}()
	return p
}

// once runs it until it ends.
func (p *networkProcess) once(ctx context.Context) error {
	orders, ordersOut, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ordersOut.Close()
	in, out, err := os.Pipe()
	if err != nil {
		orders.Close()
		return err
	}
	defer in.Close()
	child, err := p.reaper.Start(self(), []string{networkProgram}, &os.ProcAttr{
		Dir: "/", Env: environment(), Files: []*os.File{orders, out, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	orders.Close()
	out.Close()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.pid = child.PID
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { child.Signal(unix.SIGKILL) })
	defer stop()
	if err := json.NewEncoder(ordersOut).Encode(p.cfg); err != nil {
		child.Signal(unix.SIGKILL)
	}
	p.listen(in)
	child.Signal(unix.SIGKILL) // it has closed its output, or says what is no event
	<-child.Done()
	return fmt.Errorf("it %s", child.How())
}

// maxEvent is how long a line of the network's process may be: much longer than one gets with what it believes of the wire.
const maxEvent = 1 << 20

// listen takes what it says until it ends.
func (p *networkProcess) listen(in *os.File) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e netEvent
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			return
		}
		if e.Say != "" {
			p.say("%s", e.Say)
		}
		p.mu.Lock()
		if e.MAC != nil {
			p.mac = e.MAC
		}
		if e.Ready != nil && !p.isUp {
			p.got, p.isUp = *e.Ready, true
			close(p.ready)
		}
		p.mu.Unlock()
	}
}

// Wait waits for the first device that has an address, see network.Network.
func (p *networkProcess) Wait(ctx context.Context) (network.Settings, error) {
	select {
	case <-p.ready:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.got, nil
	case <-ctx.Done():
		return network.Settings{}, context.Cause(ctx)
	}
}

// MAC is the node's address; nil as long as it is not known.
func (p *networkProcess) MAC() net.HardwareAddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mac
}
