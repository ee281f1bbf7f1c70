//go:build guest

package netboot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/vm"
)

// container is the word for a definition that the boot server itself has.
const container = "windlass.container=" + webURL + "/images/debian.json"

// seenByServer are the stages that the boot server sees when it does all.
var seenByServer = []string{"discover", "lease", "script", "kernel", "initramfs"}

// TestFirmware has each kind of firmware boot to a container of Debian.
func TestFirmware(t *testing.T) {
	vm.Slot(t, vm.Config{})
	for _, f := range []firmware{bios, uefiHTTP, uefiPXE, uefiROM} {
		t.Run(f.name, func(t *testing.T) {
			site{mode: "dhcp", words: container}.serve(t)
			m := on(t, f, 0)
			m.runs("running", seenByServer...)
			m.shows(f.shows)
		})
	}
}

// runs waits until the machine's container is ready, as its API says, and the boot server knows that the machine is at a stage; it shows how
// long each stage took. The server itself must have seen some of them.
func (m *machine) runs(stage string, seen ...string) {
	m.t.Helper()
	m.within("its API says that the container is ready", func() bool {
		all, err := m.containers()
		return err == nil && len(all) == 1 && all[0].Name == "debian" && all[0].State == "running" && all[0].Ready
	})
	took := time.Since(m.on)
	m.within("the boot server knows that it is at "+stage, func() bool { return string(status(m.t, m.mac).Stage) == stage })
	var stages []string
	for _, e := range status(m.t, m.mac).Stages {
		stages = append(stages, fmt.Sprintf("%s %.1f", e.Stage, e.Seconds))
	}
	for _, want := range append([]string{"init", "network", "daemon"}, seen...) {
		if !strings.Contains(" "+strings.Join(stages, " "), " "+want+" ") {
			m.t.Errorf("the boot server has not seen stage %s of %v", want, stages)
		}
	}
	m.t.Logf("figure: %s, from power-on to the container in %.1f s; seconds since its first packet: %s", m.t.Name(), took.Seconds(), strings.Join(stages, ", "))
}
