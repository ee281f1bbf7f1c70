package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/rundir"
)

func (a *app) imageTraceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Record what a start reads of an image",
		Long: `Record what is read of a mounted image, and in which order. Kept in the store beside the image, the trace is replayed at the next mount,
so that a start finds what it needs already there; a build with --like lays the next version out by it.`,
		Example: `  windlass image trace start 12
  windlass start web && windlass wait --condition ready web
  windlass image trace stop 12 --store /srv/images
  windlass image build ./rootfs -o /srv/images --tag debian/12 --like debian/12`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range []*cobra.Command{a.traceStartCommand(), a.traceStopCommand(), a.traceShowCommand(), a.tracePutCommand()} {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error { return storeError(run(cmd, args)) }
		cmd.AddCommand(c)
	}
	return cmd
}

// serverFlags find the chunkfs server of a daemon of this node.
type serverFlags struct{ runDir string }

func (s *serverFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.runDir, "run-dir", "", "run directory of the daemon, on this node (default where its socket is: "+rundir.Default+")")
}

// client is for the server of the daemon that the other commands would talk to, unless said otherwise.
func (s *serverFlags) client(a *app) control.Client {
	dir := s.runDir
	if socket := cmp.Or(a.conn.socket, a.env("WINDLASS_SOCKET")); dir == "" && socket != "" {
		dir = filepath.Dir(socket)
	}
	return control.Client{Socket: control.PlaceIn(absolute(cmp.Or(dir, rundir.Default))).Socket()}
}

// mountID checks what names a mount: the server would look for anything.
func mountID(cmd *cobra.Command, arg string) (string, error) {
	if id, err := strconv.ParseInt(arg, 10, 64); err != nil || id <= 0 {
		return "", usagef(cmd, "%q is not the ID of a mount: `windlass image stat` lists those of images", arg)
	}
	return arg, nil
}

func (a *app) traceStartCommand() *cobra.Command {
	var server serverFlags
	cmd := &cobra.Command{
		Use:     "start MOUNT",
		Short:   "Begin to record, in place of what was recorded before",
		Example: "  windlass image trace start 12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := mountID(cmd, args[0])
			if err != nil {
				return err
			}
			return server.client(a).StartTrace(cmd.Context(), id)
		},
	}
	server.register(cmd)
	return cmd
}

func (a *app) traceStopCommand() *cobra.Command {
	var server serverFlags
	var file, at, role string
	cmd := &cobra.Command{
		Use:   "stop MOUNT",
		Short: "End the recording and keep it",
		Long: `End the recording and keep it: in a store that has the image, for all nodes, in a file, or both. The role names what the node did, such as
boot: a mount replays the trace of its role.`,
		Example: `  windlass image trace stop 12 --store /srv/images
  windlass image trace stop 12 --file boot.trace --role job`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := mountID(cmd, args[0])
			if err != nil {
				return err
			}
			if file == "" && at == "" {
				return usagef(cmd, "say where to keep it: --store STORE, --file FILE, or both")
			}
			t, err := server.client(a).StopTrace(cmd.Context(), id)
			if err != nil {
				return err
			}
			if role != "" {
				t.Role = role
			}
			return a.keepTrace(cmd.Context(), &t, file, at)
		},
	}
	server.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write it to")
	cmd.Flags().StringVar(&at, "store", "", "directory of a store that has the image")
	cmd.Flags().StringVar(&role, "role", "", "what it is of; unsaid, the role of the mount")
	return cmd
}

// keepTrace writes the file first: a store that does not have the image must not lose the recording.
func (a *app) keepTrace(ctx context.Context, t *format.Trace, file, at string) error {
	b, err := format.EncodeTrace(t)
	if err != nil {
		return err
	}
	if file != "" {
		if err := durable.WriteFile(ctx, file, b, 0o644); err != nil {
			return err
		}
	}
	if at != "" {
		s, err := store.Open(at)
		if err == nil {
			err = s.PutTrace(ctx, t)
		}
		if err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(a.out, "%s of %s: %d chunks, %d files\n", t.Role, t.Image, len(t.Chunks), len(t.Paths))
	return err
}

func (a *app) tracePutCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "put STORE FILE",
		Short:   "Keep a recorded file in a store that has its image",
		Example: "  windlass image trace put /srv/images boot.trace",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[1])
			if err != nil {
				return usageError{err, ""}
			}
			t, err := format.DecodeTrace(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[1], err)
			}
			if _, err := openOwn(cmd, args[0]); err != nil {
				return err
			}
			return a.keepTrace(cmd.Context(), t, "", args[0])
		},
	}
}

func (a *app) traceShowCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "show STORE#TAG",
		Short: "Show the trace of an image: the files, in the order of their first read",
		Example: `  windlass image trace show /srv/images#debian/12
  windlass image trace show /srv/images#debian/12 --role job -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, _, d, err := ownStore(cmd, args[0])
			if err != nil {
				return err
			}
			t, err := s.Trace(d, role)
			if err != nil {
				return err
			}
			return a.print(t, func(w io.Writer) error {
				for _, p := range t.Paths {
					if _, err := fmt.Fprintln(w, printable(p)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", "boot", "name of the trace")
	return cmd
}
