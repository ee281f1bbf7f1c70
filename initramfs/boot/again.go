package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/image"
	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// again waits before something is tried again, longer every time, and opens a shell when it does not look as if it would work. It gives false
// when the node ends.
func (n *node) again(ctx context.Context, stage bootstage.Stage, s *journal.Stage, failures int, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	s.Failed(err)
	pause := min(n.timing.pause<<min(failures-1, 10), n.timing.longest)
	hopeless := image.Hopeless(err) || untrusted(err)
	if hopeless {
		pause = min(n.timing.hopeless<<min(failures-1, 4), 10*n.timing.hopeless)
	}
	pause = pause/2 + rand.N(pause) //nolint:gosec // not a secret
	s.Say("again in %.0f s (failure %d)", pause.Seconds(), failures)
	if (hopeless || failures >= n.timing.patience) && n.first(stage) {
		n.call(ctx, stage, trouble{why: fmt.Sprintf("%s failed; it is tried again meanwhile", stage), err: err})
	}
	select {
	case <-time.After(pause):
		return true
	case <-n.nudged:
		return true
	case <-ctx.Done():
		return false
	}
}

// untrusted says whether a certificate was not good.
func untrusted(err error) bool {
	var c *tls.CertificateVerificationError
	return errors.As(err, &c)
}

// first says whether a shell is to be opened for the stage: once each.
func (n *node) first(stage bootstage.Stage) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rescued[stage] || n.opts.Rescue == cmdline.RescueOff {
		return false
	}
	n.rescued[stage] = true
	return true
}
