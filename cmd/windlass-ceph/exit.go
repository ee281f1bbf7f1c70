//go:build ceph

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The exit codes, which are those of windlass.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnreachable = 5
	exitTimeout     = 6
	exitInterrupted = 130
)

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes of windlass-ceph:

  0    done
  1    it failed; the message says why
  2    wrong usage, or a wrong configuration or file
  3    no such pool, namespace, image, snapshot or file
  4    in use, protected, or the name is taken
  5    the cluster cannot be reached, or is full
  6    the cluster did not answer in time
  130  interrupted; what was begun was taken back`,
	}
}

// usageError is a command line that cannot be right.
type usageError struct {
	err     error
	command string // whose help to read; may be empty
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// report prints the error and gives the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	code := codeOf(err)
	if code == exitInterrupted && onlyInterrupted(err) {
		return code // who interrupted knows
	}
	text := strings.TrimSpace(err.Error())
	if hint := fault.HintOf(err); hint != "" {
		text += ": " + hint
	}
	a.note(strings.ReplaceAll(text, "\n", "\n  "))
	var usage usageError
	if errors.As(err, &usage) && usage.command != "" {
		fmt.Fprintf(a.err, "See '%s --help'.\n", usage.command)
	}
	return code
}

// onlyInterrupted is false when taking back has failed, too.
func onlyInterrupted(err error) bool {
	var several interface{ Unwrap() []error }
	return !errors.As(err, &several)
}

func codeOf(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return exitUsage
	case fault.NotFound:
		return exitNotFound
	case fault.Exists, fault.Busy, fault.BadState:
		return exitConflict
	case fault.Unavailable:
		return exitUnreachable
	case fault.Timeout:
		return exitTimeout
	}
	return exitFailed
}
