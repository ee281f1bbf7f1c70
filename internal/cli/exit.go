package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The exit codes; exitCodesTopic documents them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnreachable = 5
	exitTimeout     = 6
	exitOwn         = 125 // of exec and run, whose other codes are the process's
	exitCannotRun   = 126
	exitInterrupted = 130
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of windlass:

  0    done
  1    the request failed; the message says why
  2    wrong usage, or a wrong configuration or definition: nothing was asked of the daemon
  3    no such container, mount or attachment, or no such file or image on the node
  4    in use, the name is taken, or not in the state that this needs
  5    the daemon cannot be reached
  6    a time limit passed, --timeout or one of the daemon's
  130  interrupted

exec, and run without --detach, answer with the exit code of the process, 128 + N when signal N ended it. Theirs are:

  125  windlass itself failed, for any of the reasons above
  126  the command cannot be started: it is not there, or not executable

With several targets the code is that of the first that failed; the others are done all the same.`,
	}
}

// ownExit marks a command whose exit code is that of a process.
const ownExit = "own-exit"

// usageError is a command line, or a file named by it, that cannot be right.
type usageError struct {
	err     error
	command string // whose help to read; may be empty
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...), cmd.CommandPath()}
}

// exitError ends the program with a code of its own. Without err nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e exitError) Unwrap() error { return e.err }

// notFoundError says that a target is none of any kind.
type notFoundError string

func (e notFoundError) Error() string { return string(e) }

// report prints the error and gives the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	code := codeOf(err)
	var exit exitError
	own := errors.As(err, &exit)
	quiet := own && exit.err == nil || !own && code == exitInterrupted // who interrupted knows
	if !quiet {
		for _, e := range split(err) {
			a.printError(e)
		}
	}
	if !own && cmd.Annotations[ownExit] != "" && code != exitInterrupted {
		return exitOwn
	}
	return code
}

// errorList is several errors, each printed on a line of its own.
type errorList []error

func (l errorList) Unwrap() []error { return l }
func (l errorList) Error() string   { return errors.Join(l...).Error() }

// joined makes one error of those that are not nil.
func joined(errs ...error) error {
	var list errorList
	for _, err := range errs {
		list = append(list, split(err)...)
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// split takes an errorList apart; nil is none.
func split(err error) []error {
	if list, ok := err.(errorList); ok {
		return list
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

func (a *app) printError(err error) {
	text := strings.TrimSpace(err.Error())
	if hint := fault.HintOf(err); hint != "" { // only of serve: an answer of the API holds its hint
		text += ": " + hint
	}
	fmt.Fprintf(a.err, "windlass: %s\n", strings.ReplaceAll(printable(text), "\n", "\n  "))
	var usage usageError
	if errors.As(err, &usage) && usage.command != "" {
		fmt.Fprintf(a.err, "See '%s --help'.\n", usage.command)
	}
	var answer *apiError
	if a.verbose && errors.As(err, &answer) {
		fmt.Fprintf(a.err, "  %s\n", printable(answer.details()))
	}
}

func codeOf(err error) int {
	var (
		exit        exitError
		usage       usageError
		answer      *apiError
		unreachable *unreachableError
		missing     notFoundError
	)
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &missing):
		return exitNotFound
	case errors.As(err, &answer):
		return answer.exitCode()
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &unreachable):
		return exitUnreachable
	}
	return exitFailed
}
