package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
	"github.com/windlass-hpc/windlass/internal/durable"
)

func (a *app) imageServeCommand() *cobra.Command {
	var listen, ready string
	cmd := &cobra.Command{
		Use:   "serve STORE",
		Short: "Serve a store to nodes by HTTP",
		Long: `Serve a store by HTTP until it is told to end. It is for trials and small sites: any web server that knows Range requests can serve the
directory, with TLS and passwords where they are wanted.`,
		Example: `  windlass image serve /srv/images --listen :8080
  windlass mount chunkfs http://head:8080#debian/12`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := store.Open(args[0])
			if err != nil {
				return err
			}
			return a.serveStore(cmd.Context(), s.Dir(), listen, ready)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&ready, "ready-file", "", "write the URL into this file when it answers")
	return cmd
}

// serveGrace is how long requests under way have when the server ends.
const serveGrace = 5 * time.Second

func (a *app) serveStore(ctx context.Context, dir, listen, ready string) error {
	h, err := image.NewHandler(dir)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for nodes: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	url := "http://" + l.Addr().String()
	if ready != "" {
		if err := durable.WriteFile(ctx, ready, []byte(url+"\n"), 0o644); err != nil {
			server.Close()
			return err
		}
	}
	fmt.Fprintf(a.err, "serving %s at %s\n", dir, url)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveGrace)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
