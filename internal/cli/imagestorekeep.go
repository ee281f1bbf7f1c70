package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
)

func (a *app) imageCheckCommand() *cobra.Command {
	var from string
	var jobs int
	cmd := &cobra.Command{
		Use:   "check STORE[#TAG]...",
		Short: "Check images, and mend them from another store",
		Long: `Read all that a store holds, or some of its images, and compare it with its digests: tags, manifests, indexes, metadata, every pack and
every chunk. A damage is told with the images and files that it hits. With --repair, what is damaged or missing is fetched from another
store, verified, and put in place; readers may go on meanwhile. The exit code is 1 when damage is left.`,
		Example: `  windlass image check /srv/images
  windlass image check /srv/images#debian/12 --repair http://other:8080`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, refs, err := oneStore(cmd, args)
			if err != nil {
				return err
			}
			show := a.bar("checking")
			r, err := image.Check(cmd.Context(), at, from, store.CheckOptions{Refs: refs, Parallel: jobs, Progress: show.set})
			show.end()
			if err != nil {
				return err
			}
			if err := a.print(r, func(w io.Writer) error { return writeCheck(w, r) }); err != nil {
				return err
			}
			if n := r.Damaged(); n > 0 {
				return exitError{exitFailed, fmt.Errorf("%d damages are left in %s%s", n, at, repairHint(from))}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "repair", "", "another store, a directory or URL, to mend from")
	cmd.Flags().IntVarP(&jobs, "jobs", "j", 0, "packs at once; 0 is one a processor")
	return cmd
}

func repairHint(from string) string {
	if from != "" {
		return ""
	}
	return ": --repair FROM mends from another store"
}

// oneStore takes STORE, STORE#TAG, … apart; all must be of one store. A store without a tag means all of it.
func oneStore(cmd *cobra.Command, args []string) (at string, refs []string, err error) {
	for i, arg := range args {
		s, ref := splitRef(arg)
		if i > 0 && s != at || ref == "" && len(args) > 1 {
			return "", nil, usagef(cmd, "name one store, or images of one store: STORE#TAG STORE#TAG")
		}
		at = s
		if ref != "" {
			refs = append(refs, ref)
		}
	}
	return at, refs, nil
}

// filesShown is how many files of a damage are named in a table.
const filesShown = 10

func writeCheck(w io.Writer, r *store.CheckReport) error {
	var b strings.Builder
	for _, d := range r.Damages {
		state := "damaged"
		if d.Mended {
			state = "mended"
		}
		fmt.Fprintf(&b, "%s  %s %s: %s\n", state, d.What, d.Path, d.Error)
		if len(d.Images) > 0 {
			fmt.Fprintf(&b, "    images: %s\n", strings.Join(d.Images, " "))
		}
		if len(d.Chunks) > 0 {
			fmt.Fprintf(&b, "    chunks: %d, the first is %s\n", len(d.Chunks), d.Chunks[0])
		}
		for i, f := range d.Files {
			if i == filesShown {
				fmt.Fprintf(&b, "    and %d more files\n", len(d.Files)-i)
				break
			}
			fmt.Fprintf(&b, "    file: %s\n", f)
		}
	}
	fmt.Fprintf(&b, "%d images, %d blobs, %d chunks, %s checked: ", r.Images, r.Blobs, r.Chunks, size(r.Bytes))
	switch left := r.Damaged(); {
	case len(r.Damages) == 0:
		b.WriteString("no damage\n")
	default:
		fmt.Fprintf(&b, "%d damaged, %d mended\n", left, len(r.Damages)-left)
	}
	_, err := io.WriteString(w, printable(b.String()))
	return err
}

func (a *app) imageTagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag STORE#TAG NAME",
		Short: "Give an image another tag",
		Long: `Let a tag name an image, which is given by a tag or its digest. A tag that is there moves; what it named before stays for readers until
gc, at least for its grace.`,
		Example: `  windlass image tag /srv/images#debian/12 production
  windlass image tag /srv/images#blake3:3b7f… production`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, d, err := ownStore(cmd, args[0])
			if err != nil {
				return err
			}
			txn, err := s.Begin(cmd.Context())
			if err != nil {
				return err
			}
			defer txn.End()
			return txn.Tag(cmd.Context(), args[1], d)
		},
	}
}

func (a *app) imageRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm STORE#TAG...",
		Short:   "Remove tags",
		Long:    "Remove tags. The images stay until gc removes what no other tag or pin holds, at least for its grace.",
		Example: "  windlass image rm /srv/images#debian/11",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(arg string) error {
				at, tag, err := needRef(cmd, arg)
				if err != nil {
					return err
				}
				s, err := openOwn(cmd, at)
				if err != nil {
					return err
				}
				_, err = s.RemoveTag(cmd.Context(), tag)
				return storeError(err)
			})
		},
	}
}

func (a *app) imagePinCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pin STORE#TAG",
		Short: "Keep an image whatever becomes of its tags",
		Long: `Keep the image that a tag names now, or one given by its digest, until unpin: nodes that run it go on reading when the tag moves. The
grace of gc is for readers of a day; a pin is for those of a month.`,
		Example: "  windlass image pin /srv/images#debian/12 --reason 'rack 3 runs it'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, d, err := ownStore(cmd, args[0])
			if err != nil {
				return err
			}
			if err := s.Pin(cmd.Context(), d, reason); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, d)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who list it")
	return cmd
}

func (a *app) imageUnpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unpin STORE#TAG",
		Short:   "Take a pin away",
		Example: "  windlass image unpin /srv/images#blake3:3b7f…",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, ref, err := needRef(cmd, args[0])
			if err != nil {
				return err
			}
			s, err := openOwn(cmd, at)
			if err != nil {
				return err
			}
			d, err := format.ParseDigest(ref) // a pin may have outlived its image
			if err != nil {
				if d, err = s.Tag(ref); err != nil {
					return err
				}
			}
			return s.Unpin(cmd.Context(), d)
		},
	}
}

func (a *app) imageGCCommand() *cobra.Command {
	var o store.GCOptions
	cmd := &cobra.Command{
		Use:   "gc STORE",
		Short: "Remove what nothing needs any more",
		Long: `Remove blobs that no tag, no pin and no build that goes on needs, when their grace is over: a reader that opened an image just before its
tag moved or went has that long to fetch the rest. What crashed builds left goes, too. It may run beside builds and readers.`,
		Example: `  windlass image gc /srv/images --dry-run
  windlass image gc /srv/images --grace 168h`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openOwn(cmd, args[0])
			if err != nil {
				return err
			}
			if o.Grace < 0 {
				return usagef(cmd, "--grace: %v is no time that passes", o.Grace)
			}
			r, err := s.GC(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) error { return writeGC(w, r, o.Grace) })
		},
	}
	cmd.Flags().DurationVar(&o.Grace, "grace", store.Grace, "how long what nothing holds is kept")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would go")
	return cmd
}

func writeGC(w io.Writer, r store.GCReport, grace time.Duration) error {
	did := "removed"
	if r.DryRun {
		did = "would remove"
	}
	var f facts
	f.add(did, "%d blobs, %s", r.Removed, size(r.RemovedSize))
	if r.Temps+r.Leases > 0 {
		f.add("", "%d files of builds that did not end, %s", r.Temps, size(r.TempBytes))
	}
	if r.Traces > 0 {
		f.add("", "traces of %d images", r.Traces)
	}
	f.add("kept", "%d blobs, %s, of %d images", r.KeptBlobs, size(r.KeptBytes), r.Images)
	if r.YoungBlobs > 0 {
		f.add("", "%d of them, %s, only for their grace of %v or for a build that goes on", r.YoungBlobs, size(r.YoungBytes), grace)
	}
	return f.write(w)
}
