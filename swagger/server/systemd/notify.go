// Package systemd speaks the little of systemd that a service needs: it tells the service manager how it is, and takes over sockets
// that were opened for it. Without systemd every call does nothing.
//
// It owns no socket and no policy; it opens nothing.
package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that the daemon serves. status is a line for `systemctl status`.
func Ready(status string) error { return send(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// Stopping says that the daemon is on its way down.
func Stopping() error { return send(daemon.SdNotifyStopping) }

// Reloading says that the daemon reads its configuration again; Ready must follow.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

func send(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// Watchdog tells systemd that the daemon lives, as often as it asked for, as long as alive says so; it returns when ctx ends, or at
// once when no watchdog is set.
func Watchdog(ctx context.Context, alive func(context.Context) error) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read systemd's watchdog: %w", err)
	}
	if every == 0 {
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, every/2)
		err := alive(probe)
		cancel()
		if err == nil {
			if err := send(daemon.SdNotifyWatchdog); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
