//go:build ceph

package main

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// defaultSnapshot is what nodes map when nothing is said.
const defaultSnapshot = "v1"

// publishFlags say how an image is published.
type publishFlags struct {
	objectSize        string
	noSnapshot, rmOld bool
	o                 rbd.PublishOptions
}

func (a *app) publishCommand() *cobra.Command {
	var p publishFlags
	cmd := &cobra.Command{
		Use:   "publish FILE rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]",
		Short: "Make an RBD image of a file",
		Long: `Make an RBD image of a file, such as a squashfs or ext4 image, or of a block device. Its content is read back and compared; a snapshot
is made and protected (` + defaultSnapshot + ` when none is named), which is what nodes map. Blocks of zeros take no space.

Nodes see the image under its name once it is whole, or not at all. When publishing fails or is interrupted, what was written is removed
again; what a killed one leaves has a name of its own, is listed as unfinished, and removed by the next publish of the same image.

An image that has the name already is in the way. With --replace it is renamed, and nodes that have it mapped read on; remove it once
none does. One that is open to write is not replaced without --force. The cluster cannot tell who has an image mapped read-only.`,
		Example: `  windlass-ceph publish debian.sqsh rbd:rbd/debian@v1
  windlass-ceph publish debian.sqsh rbd:rbd/debian@v2 --replace
  windlass-ceph publish node1.ext4 rbd:rbd/node1 --no-snapshot --features layering,exclusive-lock
  windlass-ceph publish --name client.publisher debian.sqsh rbd:images/hpc/debian --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.publish(cmd, args[0], args[1], p) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&p.o.Features, "features", []string{"layering"}, "features of the image; every kernel maps layering")
	f.StringVar(&p.objectSize, "object-size", "4MiB", "size of the objects it is made of, a power of two from 4KiB to 32MiB")
	f.StringVar(&p.o.DataPool, "data-pool", "", "pool for the content, such as an erasure coded one")
	f.BoolVar(&p.noSnapshot, "no-snapshot", false, "make no snapshot: for an image that a node writes to")
	f.BoolVar(&p.o.Replace, "replace", false, "rename an image that has the name already")
	f.BoolVar(&p.o.Force, "force", false, "with --replace: also one that is open to write")
	f.BoolVar(&p.rmOld, "remove-replaced", false, "with --replace: then remove the renamed one; no node may have it mapped")
	f.BoolVar(&p.o.NoVerify, "no-verify", false, "do not read back what was written")
	f.IntVarP(&p.o.Jobs, "jobs", "j", 8, "requests at the same time; each needs memory of one object")
	return cmd
}

func (a *app) publish(cmd *cobra.Command, file, to string, p publishFlags) error {
	name, err := rbd.ParseName(to)
	if err != nil {
		return err
	}
	if p.noSnapshot && name.Snapshot != "" {
		return usageError{fmt.Errorf("%s names a snapshot and --no-snapshot wants none", to), cmd.CommandPath()}
	}
	if name.Snapshot == "" && !p.noSnapshot {
		name.Snapshot = defaultSnapshot
	}
	objects, err := units.RAMInBytes(p.objectSize)
	if err != nil || objects <= 0 {
		return usageError{fmt.Errorf("--object-size %q is no size; write such as 4MiB", p.objectSize), cmd.CommandPath()}
	}
	if p.o.Jobs < 1 || p.o.Jobs > 256 {
		return usageError{fmt.Errorf("--jobs %d: from 1 to 256", p.o.Jobs), cmd.CommandPath()}
	}
	cluster, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	defer cluster.Close()
	show := a.progress()
	p.o.ObjectSize, p.o.Publisher, p.o.Note, p.o.Progress = uint64(objects), who(), a.note, show.show
	result, err := cluster.Publish(cmd.Context(), file, name, p.o)
	show.end()
	if err != nil {
		return err
	}
	if p.rmOld && result.Replaced != "" {
		a.removeReplaced(cmd, cluster, result)
	}
	return a.published(cluster, result)
}

// removeReplaced removes what was replaced. The image is published, so that a failure is worth a word and no more.
func (a *app) removeReplaced(cmd *cobra.Command, cluster *rbd.Cluster, r *rbd.Result) {
	old, err := rbd.ParseName(r.Replaced)
	if err == nil {
		err = cluster.Remove(cmd.Context(), old, rbd.RemoveOptions{Force: true})
	}
	if err != nil {
		a.note("the image is published, but the one that it replaces is still there: " + err.Error())
		return
	}
	r.Replaced = ""
}

// published tells what was published, and how nodes attach it.
func (a *app) published(cluster *rbd.Cluster, r *rbd.Result) error {
	how := definition(a.monitorsOf(cluster), cluster.User(), r)
	if a.json {
		return a.writeJSON(struct {
			*rbd.Result
			Attach any `json:"definition"`
		}{r, how})
	}
	var b strings.Builder
	fact := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	fact("image", "%v", r.Name)
	holds := r.Holds
	if holds == "" {
		holds = "nothing known"
	}
	fact("holds", "%s, %s", holds, size(r.Length))
	fact("written", "%s that are no zeros, in %v", size(r.Written), time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Millisecond))
	verified := ", read back and compared"
	if !r.Verified {
		verified = ", not read back"
	}
	fact("digest", "%s%s", r.Digest, verified)
	if r.Replaced != "" {
		fact("replaced", "the old one is %s now; remove it once no node has it mapped:", r.Replaced)
		fact("", "windlass-ceph remove --force %s", r.Replaced)
	}
	if _, err := fmt.Fprintf(a.out, "%s\nNodes mount it by this definition, with the key of client.node in their credential ceph-node:\n\n", b.String()); err != nil {
		return err
	}
	return a.writeJSON(how)
}

// monitorsOf asks for the monitors, for the definition. Without the right to ask, those of the command line do, or a word in their place.
func (a *app) monitorsOf(cluster *rbd.Cluster) monitors {
	v1, v2, err := cluster.Monitors()
	if err != nil || len(v1)+len(v2) == 0 {
		if len(a.monitors) == 0 {
			return monitors{v1: []string{"MONITOR"}}
		}
		return monitors{v1: a.monitors}
	}
	return monitors{v1: v1, v2: v2}
}

// who is what is kept with the image about its publisher.
func who() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
