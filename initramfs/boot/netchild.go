package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/windlass-hpc/windlass/initramfs/boot/network"
)

// networkProgram is the name by which windlass is the network's process. What comes over the wire is read there alone: were it to make a
// program panic, the first process and all that runs on the node would live on.
const networkProgram = "windlass-network"

// netEvent is what the network's process says, a line of JSON each.
type netEvent struct {
	Say   string            `json:"say,omitempty"`
	MAC   net.HardwareAddr  `json:"mac,omitempty"`
	Ready *network.Settings `json:"ready,omitempty"`
}

// networkChild is the network's process: in holds its configuration and then nothing, until the end of the node.
func networkChild(in io.Reader, out io.Writer) error {
	var cfg network.Config
	if err := json.NewDecoder(in).Decode(&cfg); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // it ends with the first process
		cancel()
	}()
	var mu sync.Mutex
	enc := json.NewEncoder(out)
	tell := func(e netEvent) {
		mu.Lock()
		defer mu.Unlock()
		if enc.Encode(e) != nil {
			cancel()
		}
	}
	cfg.Say = func(format string, args ...any) { tell(netEvent{Say: fmt.Sprintf(format, args...)}) }
	n, err := network.Start(ctx, cfg)
	if err != nil {
		return err
	}
	s, err := n.Wait(ctx)
	if err != nil {
		return err
	}
	tell(netEvent{Ready: &s, MAC: n.MAC()})
	<-ctx.Done()
	return nil
}
