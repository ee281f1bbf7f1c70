//go:build guest

package netboot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	mac     string
	api     string
	console string // file with what it shows
	on      time.Time
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

// arguments are those of the emulator for the machine with a number, 0 or 1.
func (f firmware) arguments(t *testing.T, number int, console string) []string {
	t.Helper()
	// Without romfile it is that of ipxe-qemu for the device, made fit for it by the emulator.
	device := fmt.Sprintf("virtio-net-pci,netdev=n0,mac=52:54:00:77:00:%02d,bootindex=0", number)
	if f.native {
		device += ",romfile="
	}
	args := []string{"-M", "pc,graphics=off", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "file:" + console,
		"-netdev", fmt.Sprintf("tap,id=n0,ifname=tap%d,script=no,downscript=no", number), "-device", device}
	if f.uefi {
		vars := filepath.Join(t.TempDir(), "vars.fd")
		if err := order("cp", "/usr/share/OVMF/OVMF_VARS_4M.fd", vars); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file="+vars)
	}
	return append(args, f.further...)
}

// on switches a machine on; the caller has a vm.Slot. It is switched off at the end of the test.
func on(t *testing.T, f firmware, number int) *machine {
	t.Helper()
	m := &machine{t: t, mac: fmt.Sprintf("52:54:00:77:00:%02d", number), api: fmt.Sprintf("http://10.77.0.1%d:8080/imageapi/v1", number),
		console: filepath.Join(t.TempDir(), "console"), on: time.Now(), exited: make(chan struct{})}
	cmd := exec.Command("qemu-system-x86_64", f.arguments(t, number, m.console)...)
	var said strings.Builder
	cmd.Stderr = &said
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

// found is what the tests look at in a container.
type found struct {
	ID    int64
	Name  string
	State string
	Ready bool
}

// containers asks the machine for its containers.
func (m *machine) containers() (all []found, err error) {
	text, code, err := m.send(http.MethodGet, "/container", "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d: %s", code, text)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &all)
	}
	return all, err
}

// send asks the API of the machine.
func (m *machine) send(method, path, body string) (answer string, code int, err error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, m.api+path, strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), resp.StatusCode, err
}
