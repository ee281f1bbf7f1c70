// windlass raises system images on compute nodes: the daemon, and the commands that talk to it.
package main

import (
	"os"

	"github.com/windlass-hpc/windlass/initramfs/boot"
	"github.com/windlass-hpc/windlass/internal/cli"
)

func main() {
	if program := boot.Program(os.Args[0]); program != "" {
		os.Exit(boot.Main(program, options().Version, os.Stderr))
	}
	os.Exit(cli.Run(os.Args, os.Stdin, os.Stdout, os.Stderr, options()))
}
