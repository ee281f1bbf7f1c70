// windlass-shim is the parent of one container's first process. The daemon starts it; it is of no use on its own.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/windlass-hpc/windlass/container/shim"
)

func init() { runtime.LockOSThread() } // main stays on the main thread: see shim.Run

func main() {
	if err := shim.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "windlass-shim:", err)
		os.Exit(1)
	}
}
