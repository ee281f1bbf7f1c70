package boot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// brokenPause is how long a node stands still on whose console something is to be read, before it starts anew.
const brokenPause = 30 * time.Second

// reviveAfterPanic has a kernel that would stand still after a panic, in its own code or because init has ended, start anew: nobody may be near
// for days. panic= on the command line decides otherwise, 0 included.
func reviveAfterPanic(line, file string) {
	for _, w := range cmdline.Words(line) {
		if strings.HasPrefix(w, "panic=") {
			return
		}
	}
	now, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(now)) == "0" {
		_ = os.WriteFile(file, []byte("30\n"), 0o644) //nolint:gosec // it is the kernel's; without it a person has to come
	}
}

// Scores by which the kernel chooses whom it ends when memory runs out.
const (
	spared    = "-900"
	notSpared = "0"
)

// spare gives a score to init, and to the daemon, the network's process and all others that it starts from now on: a container that eats the memory
// must not have them ended. Containers get a score of their own.
func spare(score string) {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0o600) // then all are treated alike
}

// spawn runs fn in the background. A fault of windlass in it is told, and then mend is called: init goes on as far as it can.
func (n *node) spawn(what string, mend, fn func()) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				n.broke(what, r, debug.Stack())
				mend()
			}
		}()
		fn()
	}()
}

// broke tells of a fault of windlass, with what one needs to find it.
func (n *node) broke(what string, r any, stack []byte) {
	for line := range strings.Lines(string(stack)) {
		n.j.Say(bootstage.Init, "%s", strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    "))
	}
	n.j.Begin(bootstage.Rescue).Failed(fmt.Errorf("%s: a fault of windlass, which you may report with the lines above: %v", what, r))
}

// restart ends the node after a while in which the console can be read. All nodes may have met the same fault, so they differ.
func (n *node) restart() {
	pause := brokenPause + rand.N(brokenPause) //nolint:gosec // not a secret
	n.j.Begin(bootstage.Rescue).Failed(errors.New("the node starts anew in " + pause.Round(time.Second).String()))
	time.Sleep(pause)
	n.flush()
	n.finish(Reboot)
}

// leave is for what init can live without.
func leave() {}
