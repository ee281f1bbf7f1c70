//go:build guest

package netboot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/test/vm"
)

// seenByServer are the stages that the boot server sees when it does all.
var seenByServer = []string{"discover", "lease", "script", "kernel", "initramfs"}

// TestTwo has two machines boot at once, from one boot server and with different firmware. It comes first: the others run beside each other,
// and would have to wait for one another's end.
func TestTwo(t *testing.T) {
	alone(t)
	vm.Slot(t, vm.Config{})
	w := free(t)
	site{wire: w, mode: "dhcp", words: w.container("debian")}.serve(t)
	first, second := w.on(t, bios, 0), w.on(t, uefiROM, 1)
	first.runs("debian", seenByServer...)
	second.runs("debian", seenByServer...)
	first.shows("iPXE")
	second.shows("iPXE")
}

// TestFirmware has firmware boot by its own driver to a container of Debian.
func TestFirmware(t *testing.T) {
	t.Parallel()
	for _, f := range []firmware{uefiPXE, uefiHTTP} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := free(t)
			site{wire: w, mode: "dhcp", words: w.container("debian")}.serve(t)
			m := w.on(t, f, 0)
			m.runs("debian", append(seenByServer, "program")...)
			m.shows(f.shows)
		})
	}
}

// runs waits until the machine's container is ready, as its API says, and until the boot server knows that; it shows how long each stage
// took. The server itself must have seen some of them.
func (m *machine) runs(container string, seen ...string) {
	m.t.Helper()
	m.ready(container)
	m.at(bootstage.Running)
	m.passed(seen...)
}

// ready waits until the machine's container is ready, as its API says, and notes the time.
func (m *machine) ready(container string) {
	m.t.Helper()
	m.within("its API says that the container "+container+" is ready", func() bool {
		all, err := m.containers()
		return err == nil && len(all) == 1 && all[0].Name == container && all[0].State == "running" && all[0].Ready
	})
	m.took = time.Since(m.begun)
}

// at waits until the boot server knows that the machine has come to a stage and is done with it.
func (m *machine) at(stage bootstage.Stage) {
	m.t.Helper()
	m.within(fmt.Sprintf("the boot server knows that %s is done", stage), func() bool {
		s := m.status()
		return s.Stage == stage && s.State == bootstage.Done
	})
}

// passed shows when the machine came to each stage, in seconds from power-on, and checks that it has passed some.
func (m *machine) passed(seen ...string) {
	m.t.Helper()
	var times []string
	was := map[string]bool{}
	for _, e := range m.status().Stages {
		was[string(e.Stage)] = true
		times = append(times, fmt.Sprintf("%s %.1f", e.Stage, e.Time.Sub(m.begun).Seconds()))
	}
	for _, want := range append([]string{"init", "modules", "network", "daemon"}, seen...) {
		if !was[want] {
			m.t.Errorf("the boot server has not seen stage %s of %v", want, times)
		}
	}
	m.t.Logf("figure: %s: container ready %.1f s from power-on; %s", m.name, m.took.Seconds(), strings.Join(times, ", "))
}
