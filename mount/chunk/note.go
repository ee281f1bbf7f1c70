package chunk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

// note is what Scratch holds of a mount that is in place: what a later daemon must know of it to tell whether it is dead.
type note struct {
	Opened control.Opened `json:"opened"`
	// Data is the device number, major:minor, of the FUSE file system that the data device lies on; "" but in mode lazy.
	Data string `json:"data,omitempty"`
}

const noteName = "chunkfs.json"

// open asks the server for the image, which is noted before.
func (d *Driver) open(ctx context.Context, server control.Client, order control.Open, target mount.Target) (opened control.Opened, err error) {
	err = step.Do(ctx, "chunkfs.note", func(context.Context) error { return os.Mkdir(target.Scratch, 0o700) })
	if err != nil {
		return control.Opened{}, err
	}
	err = step.Do(ctx, "chunkfs.open", func(ctx context.Context) error {
		opened, err = server.Open(ctx, order)
		return err
	})
	if err != nil {
		return control.Opened{}, wrap(err, "open the image %s", order.Image)
	}
	n := note{Opened: opened}
	if opened.Mode == control.Lazy {
		n.Data = deviceAt(d.cfg.Starter.Place().Data())
	}
	data, err := json.Marshal(n)
	if err != nil {
		return control.Opened{}, err
	}
	return opened, durable.WriteFile(ctx, filepath.Join(target.Scratch, noteName), data, 0o600)
}

// owes reports whether the server may have the image of a mount open.
func (d *Driver) owes(id mount.ID, target mount.Target) (bool, error) {
	for _, path := range []string{target.Scratch, d.cfg.Starter.Place().Mount(name(id))} {
		_, err := os.Lstat(path)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look at what is noted of mount %d: %w", id, err)
		}
	}
	return false, nil
}

// giveBack gives the image back to the server, when it may have it open, and removes the note. order is the one that may still be on its
// way, "" for none.
func (d *Driver) giveBack(ctx context.Context, id mount.ID, target mount.Target, order string) error {
	owed, err := d.owes(id, target)
	if err != nil || !owed {
		return err
	}
	err = step.Do(ctx, "chunkfs.close", func(ctx context.Context) error {
		server, err := d.cfg.Starter.Server(ctx)
		if err != nil {
			return err
		}
		return server.Revoke(ctx, name(id), order)
	})
	if err != nil {
		return wrap(err, "close the image of mount %d", id)
	}
	// An order that was on its way when its sender died may have been carried out just before.
	if err := fsmount.Unmount(ctx, target.Dir); err != nil {
		return err
	}
	return d.forget(ctx, id, target)
}

// forget removes the note, with which all of the mount has gone.
func (d *Driver) forget(ctx context.Context, id mount.ID, target mount.Target) error {
	d.watch.forget(id)
	return step.Do(ctx, "chunkfs.forget", func(context.Context) error { return os.RemoveAll(target.Scratch) })
}

// wrap says what was being done and keeps kind and hint.
func wrap(err error, format string, args ...any) error {
	wrapped := fmt.Errorf(format+": %w", append(args, err)...)
	if hint := fault.HintOf(err); hint != "" {
		return fault.Hintf(wrapped, "%s", hint)
	}
	return wrapped
}

// deviceAt gives the device number of the file system that is mounted at dir, "" when none is. It asks no server.
func deviceAt(dir string) string {
	at, err := fsmount.At(dir)
	if err != nil || at == nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", at.Major, at.Minor)
}

// probeTimeout bounds asking the server whether it knows a mount.
const probeTimeout = time.Second

// dead reports whether nobody serves what the mount at reads from.
func (d *Driver) dead(ctx context.Context, id mount.ID, at *mountinfo.Info, target mount.Target) bool {
	var n note
	data, err := os.ReadFile(filepath.Join(target.Scratch, noteName))
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil && !isFUSE(at) { // it was being made or taken away
		return true
	}
	if n.Opened.Mode == control.Direct {
		return false
	}
	s := d.cfg.Starter
	if !s.Alive() || n.Data != "" && n.Data != deviceAt(s.Place().Data()) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = s.Client().Stats(ctx, name(id))
	return fault.Is(err, fault.NotFound)
}
