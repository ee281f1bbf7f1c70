//go:build lab

package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/control"
	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/vm"
)

func TestMain(m *testing.M) { os.Exit(Inside(prepare, m.Run)) }

// prepare fetches what is not there; inside there is no way to the network.
func prepare() int {
	for _, order := range [][]string{{"../kernel.sh"}, {"../rootfs.sh"}, {"go", "mod", "download"}} {
		cmd := exec.Command(order[0], order[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return failed(fmt.Errorf("%v: %w", order, err))
		}
	}
	return 0
}

// packagesVar names the packages wanted, separated by spaces; testsVar is the pattern of tests in them, which -run of this test could not say:
// its alternatives (a/b|c) would be those of tests here. keepVar makes the lab stay when the tests have ended. test/lab/run.sh sets them.
// everydayVar leaves out what is rare; test/run.sh sets it.
const (
	packagesVar = "WINDLASS_LAB_PACKAGES"
	testsVar    = "WINDLASS_LAB_TESTS"
	keepVar     = "WINDLASS_LAB_KEEP"
	everydayVar = "WINDLASS_LAB_EVERYDAY"
)

// TestLab starts the servers, boots once and runs everything.
func TestLab(t *testing.T) {
	cases := Cases("../..", strings.Fields(os.Getenv(packagesVar)), os.Getenv(testsVar), os.Getenv(everydayVar) != "")
	if len(cases) == 0 {
		t.Fatal("no package has tests for the lab")
	}
	keep := os.Getenv(keepVar) != ""
	config := vm.Config{
		Cases: cases, Tags: "lab,failpoint", Modules: Modules(), Shell: keep,
		Env: map[string]string{control.Variable: "http://" + net.JoinHostPort(netns.IPv4, Port)},
		Net: &vm.Net{Tap: Tap, Addresses: []string{"10.99.0.2/24", "fd99::2/64"}},
	}
	vm.Slot(t, config)
	begun := time.Now()
	type started struct {
		servers *Servers
		err     error
	}
	ready := make(chan started, 1)
	go func() {
		s, err := Start(t.Context())
		ready <- started{s, err}
	}()
	m := vm.Boot(t, config)
	t.Logf("Linux %s after %.1f s", m.Kernel, time.Since(begun).Seconds())
	s := <-ready
	if s.err != nil {
		t.Fatal(s.err)
	}
	s.servers.Serve(t)
	t.Logf("servers after %.1f s", time.Since(begun).Seconds())
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { m.Run(t, c) })
	}
	if keep {
		stay(t)
	}
	if !t.Failed() {
		m.Done(t)
	}
}

// stay tells how to look around and stays until it is interrupted: the go command gives tests no standard input.
func stay(t *testing.T) {
	inside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("\nThe lab stays until it is interrupted. Its network is %s; from another terminal:\n"+
		"  p=$(lsns -t net -n -o PID,NS | awk '$2 == %q {print $1}')\n"+
		"  nsenter -t $p -n -m -p busybox telnet 10.99.0.2    # a shell in the guest\n"+
		"  nsenter -t $p -n -m -p                             # on the servers' side, in %s\n", inside, strings.Trim(inside, "net:[]"), dir())
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	<-interrupted
}
