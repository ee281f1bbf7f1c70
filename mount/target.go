package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// CheckUnused gives BadState when an earlier mount has left anything at the target. A driver calls it before it changes anything.
func (t Target) CheckUnused() error {
	if err := fsmount.CheckFree(t.Dir); err != nil {
		return err
	}
	_, err := os.Lstat(t.Scratch)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the scratch directory: %w", err)
	}
	return fault.Hintf(fault.New(fault.BadState, "%s is left of an earlier mount", t.Scratch), "unmount it first")
}
