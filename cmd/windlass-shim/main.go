//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// windlass-shim is the parent of one container's first process; called with the word keeper, it is the keeper of the chunkfs server, and
// with the word helper it does for the daemon what may block for ever. The daemon starts it; it is of no use on its own.
//
// The daemon says how many processors it may use (GOMAXPROCS), so the runtime need not read cgroup files to find out: hence the
// directives above.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/windlass-hpc/windlass/chunkfs/keeper"
	"github.com/windlass-hpc/windlass/container/shim"
	"github.com/windlass-hpc/windlass/internal/helper/act"
)

func init() { runtime.LockOSThread() } // main stays on the main thread: see shim.Run

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "windlass-shim:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "keeper" {
		return keeper.Run(args[1:])
	}
	if len(args) == 1 && args[0] == act.Word {
		return act.Run()
	}
	return shim.Run()
}
