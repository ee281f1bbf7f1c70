package boot

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/journal"
	"github.com/windlass-hpc/windlass/initramfs/boot/root"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// reportPatience is how long reports may hold up the end.
const reportPatience = 3 * time.Second

// flushPatience is how long the console may.
const flushPatience = time.Second

// handOff raises the definition's mount alone and gives the node to what is in it. It only comes back when that failed.
func (n *node) handOff(ctx context.Context, s *journal.Stage, spec *models.Container) error {
	m, err := n.api.Mount(ctx, spec.Mount)
	if err != nil {
		return err
	}
	s.Done("its root is mounted at %s", m.Mountpoint)
	h := n.j.Begin(bootstage.Handoff)
	if n.opts.Handoff == cmdline.HandoffKexec {
		err = n.kexec(ctx, h, m)
	} else {
		err = n.switchRoot(h, m)
	}
	if ctx.Err() == nil {
		_ = n.api.Delete(ctx, "mount", m.ID, true) // it is raised anew
	}
	return err
}

// switchRoot makes the mount the root. The daemon ends: another one in the image must not take the root that it stands on for its own, so
// the records go out of its way.
func (n *node) switchRoot(h *journal.Stage, m *models.Mount) error {
	next, err := n.nextInit(m.Mountpoint, os.Args[1:], os.Environ())
	if err != nil {
		return err
	}
	n.loadForSystemd()
	h.Done("switch_root to %s of the image; the daemon ends", next.Program)
	n.flush()
	n.stopDaemon()
	n.cancel() // the shell, if there is one, and the network's process: they have no place in the image
	if n.net != nil {
		select {
		case <-n.net.done:
		case <-time.After(lastWords): // a driver that does not let go of it holds up nobody
		}
	}
	_ = os.Rename(rundir.Default+"/records", rundir.Default+"/records.boot")
	spare(notSpared)                      // the image's first process, and all that comes of it, are as any others
	err = root.Switch(m.Mountpoint, next) // it only comes back when it failed, and then there is no way back
	n.j.Say(bootstage.Handoff, "%v: the node starts anew", err)
	n.finish(Reboot)
	return err
}

// loadForSystemd loads what systemd asks for before there is anything that could load it, and which an image without modules of this kernel does not
// have: its automounts. Without it those fail and all else works.
func (n *node) loadForSystemd() {
	if l, err := kmod.OpenLoader("/", kmod.CommandLine(n.line)); err == nil && l.Has("autofs4") {
		_ = l.Load(context.Background(), "autofs4")
	}
}

// kexec starts the image's own kernel, with the command line of this one.
func (n *node) kexec(ctx context.Context, h *journal.Stage, m *models.Mount) error {
	k, err := root.FindKernel(m.Mountpoint)
	if err != nil {
		return err
	}
	if err := k.Load(n.nextLine()); err != nil {
		return err
	}
	h.Done("kexec of %s with %s", k.Kernel, orNone(k.Initrd))
	down, cancel := context.WithTimeout(ctx, takeDown)
	defer cancel()
	if err := n.api.Delete(down, "mount", m.ID, true); err != nil {
		h.Say("the image stays mounted: %v", err)
	}
	n.flush()
	n.finish("kexec")
	return fmt.Errorf("the kernel did not start")
}

// nextLine is the command line of the next kernel: all of this one's, but for what would make it go the same way again.
func (n *node) nextLine() string {
	var words []string
	for _, w := range cmdline.Words(n.line) {
		if !strings.HasPrefix(w, "windlass.handoff=") && !strings.HasPrefix(w, "BOOT_IMAGE=") && !strings.HasPrefix(w, "initrd=") {
			words = append(words, w)
		}
	}
	return cmdline.Line(words)
}

func orNone(name string) string {
	if name == "" {
		return "no initrd"
	}
	return name
}

// flush gives console and reports the time that they need, within bounds.
func (n *node) flush() {
	if n.reports != nil {
		n.reports.Flush(reportPatience)
	}
	n.console.Flush(flushPatience)
}
