package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) imageStatCommand() *cobra.Command {
	var (
		server serverFlags
		files  bool
		latest bool
	)
	cmd := &cobra.Command{
		Use:   "stat [MOUNT]",
		Short: "Show how mounted images fare: what was fetched, read, and still missing",
		Long: `Show what the chunkfs mounts of the daemon have done: bytes that readers wanted, bytes that came, what of the image is here, origins and
their health. With the ID of a mount, all of it; with --files also what was read of which file, which asks the chunkfs server of this node.

AMPLIFIED is what came by what readers wanted, both as stored: 1 is the best that there is before anything is fetched ahead.`,
		Example: `  windlass image stat
  windlass image stat 12
  windlass image stat 12 --files --latest`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if files || latest {
					return usagef(cmd, "--files and --latest are of one mount: name it")
				}
				return a.statAll(cmd)
			}
			if files || latest {
				return a.statFiles(cmd, server.client(a), args[0], latest)
			}
			return a.statOne(cmd, args[0])
		},
	}
	server.register(cmd)
	cmd.Flags().BoolVar(&files, "files", false, "what was read of which file, by the first read")
	cmd.Flags().BoolVar(&latest, "latest", false, "the same, by the last read, latest first")
	return cmd
}

// imageMounts gives the chunkfs mounts of the daemon: all, or the one with this ID.
func (a *app) imageMounts(cmd *cobra.Command, id *int64) ([]*models.Mount, error) {
	daemon, err := a.connect()
	if err != nil {
		return nil, err
	}
	return daemon.mounts(cmd.Context(), id, ref(string(models.MountKindChunkfs)))
}

func (a *app) statAll(cmd *cobra.Command) error {
	list, err := a.imageMounts(cmd, nil)
	if err != nil {
		return err
	}
	return a.print(notNil(list), func(w io.Writer) error {
		t := &table{head: []string{"MOUNT", "IMAGE", "MODE", "SIZE", "HERE", "WANTED", "FETCHED", "AMPLIFIED", "HITS", "WAITED", "ERRORS"}}
		for _, m := range list {
			if m.Chunkfs == nil {
				continue
			}
			s := m.Chunkfs.Status
			if s == nil || s.Asked == nil {
				t.add(fmt.Sprint(m.ID), deref(m.Chunkfs.Image), deref(m.Chunkfs.Mode), "", "", "", "", "", "", "", "")
				continue
			}
			t.add(fmt.Sprint(m.ID), deref(m.Chunkfs.Image), s.Mode, size(s.Size), share(s.Cached, s.Size), size(s.Wanted), size(s.Fetched),
				fmt.Sprintf("%.2f", s.Amplification), fmt.Sprint(s.Hits), fmt.Sprint(s.Misses), fmt.Sprint(s.Errors))
		}
		return t.write(w)
	})
}

// share says how much of something is there.
func share(part, all int64) string {
	if all <= 0 {
		return size(part)
	}
	return fmt.Sprintf("%s, %d %%", size(part), 100*part/all)
}

func (a *app) statOne(cmd *cobra.Command, arg string) error {
	text, err := mountID(cmd, arg)
	if err != nil {
		return err
	}
	var id int64
	if _, err := fmt.Sscan(text, &id); err != nil {
		return err
	}
	list, err := a.imageMounts(cmd, &id)
	if err != nil {
		return err
	}
	if len(list) == 0 || list[0].Chunkfs == nil {
		return notFoundError(fmt.Sprintf("%d is not a mount of a chunkfs image: `windlass image stat` lists those", id))
	}
	return a.print(list[0].Chunkfs, func(w io.Writer) error { return statFacts(list[0].Chunkfs).write(w) })
}

func statFacts(part *models.MountChunkfs) *facts {
	f := &facts{}
	f.add("image", "%s", chunkfsSource(part))
	s := part.Status
	if s == nil || s.Asked == nil {
		f.add("state", "the chunkfs server has not been asked yet")
		return f
	}
	f.add("digest", "%s", s.Image)
	f.add("mode", "%s", s.Mode)
	if s.Error != "" {
		f.add("stale", "as of %s: %s", time.Time(*s.Asked).Local().Format(time.TimeOnly), s.Error)
	}
	f.add("here", "%s of %s", share(s.Cached, s.Size), size(s.Size))
	if s.Complete {
		f.add("", "complete: the origins are not needed any more")
	}
	f.add("readers", "wanted %s, got %s", size(s.Wanted), size(s.Served))
	f.add("reads", "%d answered at once, %d waited, %d failed", s.Hits, s.Misses, s.Errors)
	f.add("latency", "%s", latencies(s.Latency))
	f.add("fetched", "%s in %d requests, %.2f times what readers wanted; %s more from other images of the cache", size(s.Fetched), s.Requests,
		s.Amplification, size(s.Shared))
	if p := s.Prefetch; p != nil && p.State != "" && p.State != string(control.PrefetchNone) {
		f.add("ahead", "%s: %s", p.State, share(p.Done, p.Total))
	}
	if s.Corrupt > 0 {
		f.add("refused", "%d damaged chunks", s.Corrupt)
	}
	if s.LastError != "" {
		f.add("last error", "%s", s.LastError)
	}
	for _, o := range s.Origins {
		state := "healthy"
		if !o.Healthy {
			state = "failing: " + o.LastError
		}
		f.add("origin", "%s: %s; %s in %d requests, %d failed, %.1f ms", o.URL, state, size(o.Bytes), o.Requests, o.Failures, o.LatencyMs)
	}
	f.add("memory", "%s of the chunkfs server, all mounts together", size(s.Rss))
	return f
}

// latencies says in which bucket the median, the 99th hundredth and the slowest read lie.
func latencies(buckets []*models.ChunkfsBucket) string {
	var total int64
	for _, b := range buckets {
		total += b.Count
	}
	if total == 0 {
		return "no reads"
	}
	bound := func(n int64) string {
		var sum int64
		for _, b := range buckets {
			if sum += b.Count; sum >= n && b.Count > 0 {
				if b.Le == 0 {
					return "longer than all buckets"
				}
				return "≤ " + time.Duration(b.Le*float64(time.Second)).String()
			}
		}
		return "-"
	}
	return fmt.Sprintf("half of the reads %s, 99 of 100 %s, all %s", bound((total+1)/2), bound((total*99+99)/100), bound(total))
}

func (a *app) statFiles(cmd *cobra.Command, server control.Client, arg string, latest bool) error {
	id, err := mountID(cmd, arg)
	if err != nil {
		return err
	}
	list, err := server.Files(cmd.Context(), id, latest)
	if err != nil {
		return err
	}
	return a.print(notNil(list), func(w io.Writer) error {
		t := &table{head: []string{"FIRST", "READS", "BYTES", "FILE"}}
		for _, f := range list {
			first := time.Duration(f.First).Round(time.Millisecond)
			t.add(first.String(), fmt.Sprint(f.Reads), size(f.Bytes), strings.ReplaceAll(f.Path, "\n", `\n`))
		}
		return t.write(w)
	})
}
