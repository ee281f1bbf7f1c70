//go:build ceph

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/image/rbd"
)

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list rbd:POOL[/NAMESPACE]",
		Aliases: []string{"ls"},
		Short:   "List the images of a pool",
		Long: `List the images of a pool or of a namespace in it. A * marks a snapshot that is protected; WRITERS have the image open to write.

States: published by this program, foreign when made by other means, publishing while somebody writes it, unfinished when whoever did is
gone, removing when a removal has not ended, replaced when another has its name now. Who has an image mapped read-only the cluster does
not know.`,
		Example: `  windlass-ceph list rbd:rbd
  windlass-ceph list rbd:images/hpc --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := rbd.ParsePool(args[0])
			if err != nil {
				return err
			}
			cluster, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer cluster.Close()
			list, err := cluster.List(cmd.Context(), in)
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(list)
			}
			return a.table(list)
		},
	}
}

func (a *app) table(list []rbd.Info) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSTATE\tSIZE\tHOLDS\tFEATURES\tSNAPSHOTS\tWRITERS\tPUBLISHED\tBY\tDIGEST")
	for _, i := range list {
		if i.Error != "" {
			a.note(i.Name.String() + ": " + i.Error)
		}
		published := ""
		if i.Published != nil {
			published = i.Published.UTC().Format("2006-01-02 15:04")
		}
		cells := []string{i.Name.Image, string(i.State), size(int64(i.Size)), i.Holds, strings.Join(i.Features, ","), snapshots(i.Snapshots),
			strings.Join(i.Watchers, ","), published, i.Publisher, brief(i.Digest)}
		for n, c := range cells {
			if c == "" {
				c = "-"
			}
			cells[n] = printable(strings.Join(strings.Fields(c), " "))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func snapshots(list []rbd.Snapshot) string {
	var names []string
	for _, s := range list {
		name := s.Name
		if s.Protected {
			name += "*"
		}
		if n := len(s.Clones); n == 1 {
			name += " (1 clone)"
		} else if n > 1 {
			name += fmt.Sprintf(" (%d clones)", n)
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

// brief is the beginning of a digest, enough for people.
func brief(digest string) string {
	algorithm, sum, ok := strings.Cut(digest, ":")
	if !ok || len(sum) < 12 {
		return digest
	}
	return algorithm + ":" + sum[:12]
}
