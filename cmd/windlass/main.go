// windlass raises system images on compute nodes: the daemon, and the commands that talk to it.
package main

import (
	"os"

	"github.com/windlass-hpc/windlass/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args, os.Stdin, os.Stdout, os.Stderr, options()))
}
