//go:build guest

package netboot

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is one that is switched on.
type machine struct {
	t       *testing.T
	wire    wire
	mac     string
	name    string // of its firmware
	api     string
	console string // file with what it shows
	keys    io.Writer
	begun   time.Time     // when it was switched on
	took    time.Duration // from there until its container was ready
	exited  chan struct{}
}

// firmware says how a machine boots.
type firmware struct {
	name    string
	shows   string // what its console must show
	uefi    bool
	native  bool     // it boots by its own driver, not by iPXE in the network device
	further []string // arguments of the emulator
}

// The kinds of firmware. UEFI tries PXE before HTTP, unless it is told to leave that alone.
var (
	bios     = firmware{name: "BIOS iPXE ROM", shows: "iPXE"}
	uefiROM  = firmware{name: "UEFI iPXE ROM", shows: "iPXE", uefi: true}
	uefiPXE  = firmware{name: "UEFI PXE", shows: ">>Start PXE over IPv4", uefi: true, native: true}
	uefiHTTP = firmware{name: "UEFI HTTP", shows: ">>Start HTTP Boot over IPv4", uefi: true, native: true,
		further: []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"}}
)

// arguments are those of the emulator for a machine on a wire. Its serial line is what the emulator reads and writes.
func (f firmware) arguments(t *testing.T, w wire, number int) []string {
	t.Helper()
	// Without romfile it is that of ipxe-qemu for the device, made fit for it by the emulator.
	device := fmt.Sprintf("virtio-net-pci,netdev=n0,mac=%s,bootindex=0", w.mac(number))
	if f.native {
		device += ",romfile="
	}
	// One processor, since two machines run at once on two cores.
	args := []string{"-M", "pc,graphics=off", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio",
		"-netdev", fmt.Sprintf("tap,id=n0,ifname=%s,script=no,downscript=no", w.tap(number)), "-device", device}
	if f.uefi {
		vars := filepath.Join(t.TempDir(), "vars.fd")
		if err := order("cp", "/usr/share/OVMF/OVMF_VARS_4M.fd", vars); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file="+vars)
	}
	return append(args, f.further...)
}

// on switches a machine on; the caller has its wire. It is switched off at the end of the test.
func (w wire) on(t *testing.T, f firmware, number int) *machine {
	t.Helper()
	m := &machine{t: t, wire: w, mac: w.mac(number), name: f.name, api: "http://" + w.ip(number) + ":8080/imageapi/v1",
		console: filepath.Join(t.TempDir(), "console"), exited: make(chan struct{})}
	cmd := exec.Command("qemu-system-x86_64", f.arguments(t, w, number)...)
	var said strings.Builder
	cmd.Stderr = &said
	screen, err := os.Create(m.console)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	cmd.Stdout = screen
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.keys, m.begun = keys, time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install Debian's qemu-system-x86, as test/install.sh does", err)
	}
	go func() { _ = cmd.Wait(); close(m.exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-m.exited
		if t.Failed() {
			text := m.text()
			t.Logf("the emulator: %s\nthe console of %s:\n%s", said.String(), m.mac, text[max(0, len(text)-16<<10):])
		}
	})
	return m
}

// types types a line on the console.
func (m *machine) types(line string) {
	m.t.Helper()
	if _, err := io.WriteString(m.keys, line+"\r"); err != nil {
		m.t.Fatalf("type %q: %v", line, err)
	}
}

// answers has the shell on the console say something, which shows that there is one.
func (m *machine) answers(word string) {
	m.t.Helper()
	m.types(`echo ` + word[:1] + `""` + word[1:]) // the echo of what is typed is not what is waited for
	m.shows("\n" + word + "\n")
}

// text is what the console shows.
func (m *machine) text() string {
	data, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(data), "\r", "")
}

// shows waits until the console shows all of the texts.
func (m *machine) shows(texts ...string) {
	m.t.Helper()
	for _, text := range texts {
		m.within(fmt.Sprintf("its console shows %q", text), func() bool { return strings.Contains(m.text(), text) })
	}
}

// within waits until something of the machine is so; it need not wait when that has ended.
func (m *machine) within(what string, so func() bool) {
	m.t.Helper()
	within(m.t, what, func() bool {
		m.t.Helper()
		select {
		case <-m.exited:
			m.t.Fatalf("the machine has ended, and not so: %s", what)
		default:
		}
		return so()
	})
}
