// Bench-netboot measures the boot server side by side with dnsmasq: exchanges of DHCP with leases that are kept on disk, and files by TFTP; and,
// where nginx is installed, files by HTTP. It is run by test/bench-netboot.sh and prints a table of medians.
//
// Both run in the same network namespace, one after the other, on the same disk; who begins changes from round to round. The clients are the
// same for both, and are on the same machine: they take more of its time than the servers do.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/netload"
)

type options struct {
	windlass string
	rounds   int
	nodes    int
	at       int
	work     string
}

func main() {
	var o options
	flag.StringVar(&o.windlass, "windlass", "", "the program to measure")
	flag.IntVar(&o.rounds, "rounds", 7, "how often each is measured")
	flag.IntVar(&o.nodes, "nodes", 1000, "nodes that ask for an address, in a round")
	flag.IntVar(&o.at, "at", 64, "how many of them at once")
	flag.StringVar(&o.work, "work", "", "a directory on the disk on which leases are kept")
	flag.Parse()
	os.Exit(netns.Run(func() int {
		if err := o.run(); err != nil {
			fmt.Fprintln(os.Stderr, "bench-netboot:", err)
			return 1
		}
		return 0
	}))
}

// row is one thing that is measured, for each contestant by name.
type row struct {
	what, unit string
	who        []string
	measure    func(ctx context.Context, who string) (float64, error)
	got        map[string][]float64
}

func (o options) run() error {
	if err := netload.Wire(); err != nil {
		return err
	}
	defer netload.Unwire() // the namespaces end with this process anyway
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.ether.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	rows := b.rows()
	for round := range o.rounds + 1 {
		for i := range rows {
			r := &rows[i]
			for k := range r.who {
				who := r.who[(k+round)%len(r.who)]
				v, err := r.measure(ctx, who)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.what, who, err)
				}
				if round > 0 { // the first fills the page cache
					r.got[who] = append(r.got[who], v)
				}
			}
		}
	}
	for _, r := range rows {
		fmt.Println(r.line())
	}
	return nil
}

// files are what is fetched, by their sizes in MiB.
func (b *bench) makeFiles() error {
	for _, mib := range []int{1, 16, 64} {
		data := make([]byte, mib<<20)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		if err := os.WriteFile(filepath.Join(b.files, fileOf(mib)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func fileOf(mib int) string { return fmt.Sprintf("%dMiB", mib) }
