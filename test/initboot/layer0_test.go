//go:build guest

package initboot

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/vm"
)

// kraken orders what layercake does on a node; see layer0/kraken-layercake.
type kraken struct {
	t       *testing.T
	n       *node
	orders  chan map[string]any
	answers chan krakenAnswer
}

type krakenAnswer struct {
	Containers map[string]string
	Error, Log string
}

// serve is what layercake asks: each time it says what came of the order before.
func (k *kraken) serve(w http.ResponseWriter, r *http.Request) {
	var a krakenAnswer
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		k.t.Error(err)
	}
	select {
	case k.answers <- a:
	case <-r.Context().Done():
		return
	}
	select {
	case o := <-k.orders:
		_ = json.NewEncoder(w).Encode(o) // who has gone asks again
	case <-r.Context().Done():
	}
}

// answer waits for what came of the last order.
func (k *kraken) answer() krakenAnswer {
	k.t.Helper()
	select {
	case a := <-k.answers:
		return a
	case <-k.n.exited:
		k.t.Fatal("the guest has ended")
	case <-time.After(patience):
		k.t.Fatal("layercake does not answer")
	}
	return krakenAnswer{}
}

// ask has layercake do one thing and gives what came of it.
func (k *kraken) ask(o map[string]any) krakenAnswer {
	k.t.Helper()
	select {
	case k.orders <- o:
	case <-k.n.exited:
		k.t.Fatal("the guest has ended")
	}
	return k.answer()
}

// order has layercake do one thing, which must work.
func (k *kraken) order(o map[string]any) map[string]string {
	k.t.Helper()
	a := k.ask(o)
	if a.Error != "" {
		k.t.Fatalf("%v: %s\n%s", o, a.Error, a.Log)
	}
	return a.Containers
}

// until polls, as layercake does, until the container has the state; "" is that there is none.
func (k *kraken) until(name, state string) {
	k.t.Helper()
	within(k.t, fmt.Sprintf("%s is %q", name, state), func() bool {
		a := k.ask(map[string]any{"Method": "GET"}) // an error, as long as the API does not serve yet
		return a.Error == "" && a.Containers[name] == state
	})
}

// says is what a shell's words in the container tell the test's web server: whoever is in a container has bash, and no other client.
func says(o *origin, what string) string {
	host := strings.TrimPrefix(o.url, "http://")
	addr, port, _ := strings.Cut(host, ":")
	return fmt.Sprintf(`{ exec 3<>/dev/tcp/%s/%s; printf "GET /says?%s HTTP/1.0\r\n\r\n" >&3; cat <&3; exec 3>&-; }`, addr, port, what)
}

// layer0 boots Kraken's layer0 with windlass in the forerunner's place, made by the commands of docs/boot.md, and has layercake raise a Debian with
// systemd and take it away.
func layer0(t *testing.T, bin string) {
	dir, kernel := t.TempDir(), filepath.Join(vm.Cache(), "kernel")
	run(t, dir, "sh", "-ec", `
		windlass=$1/windlass kernel=$2 base=$3 script=$4
		$windlass initramfs tools --modprobe -o tools.img
		$windlass initramfs build --kernel "$kernel/vmlinuz" --modules "$kernel" --preset minimal --layer kmod -o kmod.img
		$windlass initramfs build --file "$script:uinit.script" --layer config -o conf.img
		cat "$base" tools.img kmod.img conf.img >layer0.img`, "sh", bin, kernel, layer0Base(t), absolute(t, "layer0/uinit.script"))

	o, said := newOrigin(t), make(chan string, 10)
	k := &kraken{t: t, orders: make(chan map[string]any), answers: make(chan krakenAnswer)}
	o.file("/debian.squashfs", filepath.Join(vm.Cache(), "debian.squashfs"))
	o.set("/layercake", k.serve)
	o.set("/says", func(_ http.ResponseWriter, r *http.Request) { said <- r.URL.RawQuery })
	// modscan looks once; virtio would show its devices only after that.
	k.n = with{nic: "e1000"}.boot(t, dir+"/layer0.img", 1024, "kraken.iface=eth0 kraken.ip=10.0.2.15 kraken.net=24 kraken.name=layered kraken.id=1 kraken.loglevel=7 kraken.parent="+strings.TrimPrefix(o.url, "http://"))

	k.answer() // it is there
	k.until("image", "")
	// systemd hangs its console up when it begins, so what waits beside it has nothing to do with that.
	command := fmt.Sprintf(`/bin/bash -c '(trap "" HUP; until systemctl is-system-running --wait | grep -E "running|degraded"; do sleep 0.3; done; %s) </dev/null >/dev/null 2>&1 & exec /sbin/init'`,
		says(o, "$(systemctl is-system-running):$(systemctl list-units --failed --plain --no-legend | cut -d\" \" -f1 | tr \"\\n\" ,)"))
	k.order(map[string]any{"Method": "POST", "Container": map[string]any{"name": "image", "command": command, "systemd": true, "state": "running",
		"mount": map[string]any{"kind": "overlay", "overlay": map[string]any{"lower": []any{map[string]any{"kind": "attach", "attach": map[string]any{
			"fs_type": "squashfs", "attach": map[string]any{"kind": "loopback", "loopback": map[string]any{"path": "/debian.squashfs", "base": "root"}}}}}}}}})
	k.until("image", "running")
	select {
	case got := <-said:
		if got != "running:" {
			t.Errorf("from the container: %s", got)
		}
	case <-time.After(patience):
		t.Error("the container's systemd does not run")
	}
	k.order(map[string]any{"Method": "PATCH", "Name": "image", "State": "exited"})
	k.until("image", "exited")
	k.order(map[string]any{"Method": "DELETE", "Name": "image"})
	k.until("image", "")
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
