package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/execstream"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func (a *app) execCommand() *cobra.Command {
	var (
		interactive, tty bool
		env              []string
		spec             models.ExecSpec
	)
	cmd := &cobra.Command{
		Use:   "exec [-it] ID|NAME COMMAND [ARG]...",
		Short: "Run a process in a running container",
		Long: `Run a process in a running container and answer with its exit code. With -i it gets the input of this command, with -t a
terminal.`,
		Example: `  windlass exec web systemctl is-system-running
  windlass exec -it web bash
  tar c dir | windlass exec -i web tar x -C /srv`,
		Annotations: map[string]string{ownExit: "yes"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("give a container and a command")
			}
			return nil
		},
		ValidArgsFunction: a.completeOneContainer,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if spec.Env, err = parsePairs("env", env, a.opts.Env); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			spec.Command, spec.Tty = args[1:], &tty
			return a.exec(cmd.Context(), args[0], &spec, interactive)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the container is the command's
	f.BoolVarP(&interactive, "interactive", "i", false, "pass on the input")
	f.BoolVarP(&tty, "tty", "t", false, "give it a terminal")
	f.StringArrayVarP(&env, "env", "e", nil, "environment variable KEY=VALUE, or KEY to pass on; may be given again")
	f.StringVarP(&spec.User, "user", "u", "", "run as USER, USER:GROUP or numbers")
	f.StringVarP(&spec.WorkingDir, "workdir", "w", "", "directory to run in")
	return cmd
}

func (a *app) exec(ctx context.Context, target string, spec *models.ExecSpec, interactive bool) error {
	daemon, err := a.connect()
	if err != nil {
		return err
	}
	c, err := daemon.container(ctx, target)
	if err != nil {
		return err
	}
	screen := terminal(a.in)
	if *spec.Tty && screen != nil {
		a.dressForTerminal(spec, screen)
	}
	conn, err := execstream.Dial(ctx, daemon.http, daemon.endpoint("container", strconv.FormatInt(int64(c.ID), 10), "exec"), spec)
	if err != nil {
		return execFault(daemon.fault(err))
	}
	defer conn.Close()
	if *spec.Tty && screen != nil {
		restore, err := takeTerminal(screen, conn, interactive)
		if err != nil {
			return err
		}
		defer restore()
	}
	go feed(conn, a.in, interactive)
	result, err := conn.Wait(a.out, a.err)
	if err != nil {
		return execFault(daemon.fault(err))
	}
	if result.ExitCode != 0 {
		return exitError{code: int(result.ExitCode)}
	}
	return nil
}

// dressForTerminal says what terminal the process gets.
func (a *app) dressForTerminal(spec *models.ExecSpec, screen *os.File) {
	if columns, rows, err := term.GetSize(int(screen.Fd())); err == nil {
		r, c := int64(rows), int64(columns)
		spec.Rows, spec.Columns = &r, &c
	}
	if name := a.env("TERM"); name != "" {
		if spec.Env == nil {
			spec.Env = map[string]string{}
		}
		if _, given := spec.Env["TERM"]; !given {
			spec.Env["TERM"] = name
		}
	}
}

// takeTerminal passes keys on as they are pressed, when there is input at all, and follows the size of the window. restore gives the
// terminal back as it was.
func takeTerminal(screen *os.File, conn *execstream.Conn, raw bool) (restore func(), err error) {
	fd := int(screen.Fd())
	var before *term.State
	if raw {
		if before, err = term.MakeRaw(fd); err != nil {
			return nil, fmt.Errorf("take over the terminal: %w", err)
		}
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		for range resized {
			if columns, rows, err := term.GetSize(fd); err == nil {
				_ = conn.Resize(uint16(rows), uint16(columns)) // the connection's end is told by Wait
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
		if before != nil {
			_ = term.Restore(fd, before) // there is nobody left to tell
		}
	}, nil
}

// feed passes input on to its end. A process that no longer reads is no failure of ours.
func feed(conn *execstream.Conn, in io.Reader, interactive bool) {
	stdin := conn.Stdin()
	if interactive {
		_, _ = io.Copy(stdin, in)
	}
	_ = stdin.Close()
}

// execFault tells apart what the command line got wrong: the command is not there, or cannot be executed.
func execFault(err error) error {
	var answer *apiError
	if errors.As(err, &answer) && answer.payload.Kind == string(fault.Invalid) && answer.status == http.StatusBadRequest {
		return exitError{exitCannotRun, err}
	}
	return err
}
