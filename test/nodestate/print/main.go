// Command print shows what a daemon instance has on the node, saves it, or compares it with what was saved, for shell scripts.
//
//	print -run-dir DIR [-under DIR]… [-pid N]            one line a thing
//	print -run-dir DIR -save FILE                         keep it
//	print -run-dir DIR -compare FILE [-wait DURATION]     print the differences; exit 1 when there are any
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/test/nodestate"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nodestate:", err)
		code = 2
	}
	os.Exit(code)
}

func run(args []string, stdout io.Writer) (code int, err error) {
	flags := flag.NewFlagSet("nodestate", flag.ContinueOnError)
	var o nodestate.Options
	flags.StringVar(&o.RunDir, "run-dir", "", "the instance's run directory")
	flags.IntVar(&o.PID, "pid", 0, "list this process's descriptors too")
	flags.Func("under", "a further directory of the test (may be repeated)", func(d string) error {
		o.Under = append(o.Under, d)
		return nil
	})
	save := flags.String("save", "", "write the snapshot to this file")
	compare := flags.String("compare", "", "compare with the snapshot in this file")
	wait := flags.Duration("wait", 0, "how long a difference may take to go away")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if *compare != "" {
		return compareWith(*compare, o, *wait, stdout)
	}
	state, err := nodestate.Take(o)
	if err != nil {
		return 2, err
	}
	if *save != "" {
		data, err := json.Marshal(state)
		if err != nil {
			return 2, err
		}
		return 0, os.WriteFile(*save, data, 0o600)
	}
	for _, i := range state.Items {
		fmt.Fprintln(stdout, i)
	}
	return 0, nil
}

func compareWith(file string, o nodestate.Options, wait time.Duration, stdout io.Writer) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 2, err
	}
	var before nodestate.State
	if err := json.Unmarshal(data, &before); err != nil {
		return 2, fmt.Errorf("%s: %w", file, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	diff, err := nodestate.Settle(ctx, o, before)
	if err != nil || len(diff) == 0 {
		return 0, err
	}
	fmt.Fprintln(stdout, strings.Join(diff, "\n"))
	return 1, nil
}
