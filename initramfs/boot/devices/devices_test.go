package devices

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// node has devices that show when the driver of another is loaded.
type node struct {
	mu     sync.Mutex
	loaded []string
	then   map[string]string // alias: that of the device that shows
	fail   map[string]error
	events chan string
}

func (n *node) Start() []string { return []string{"loop", "virtio_pci"} }

func (n *node) Load(_ context.Context, name string, _ ...string) error {
	n.mu.Lock()
	n.loaded = append(n.loaded, name)
	next := n.then[name]
	err := n.fail[name]
	n.mu.Unlock()
	if next != "" {
		time.Sleep(10 * time.Millisecond) // as drivers do
		n.events <- next
	}
	return err
}

func (n *node) has(names ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(n.loaded, name) {
			return false
		}
	}
	return true
}

func sys(t *testing.T, aliases ...string) string {
	dir := t.TempDir()
	for i, a := range aliases {
		d := filepath.Join(dir, "devices", fmt.Sprintf("pci0/%d", i))
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, "modalias"), []byte(a+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDevicesBehindDevices(t *testing.T) {
	n := &node{events: make(chan string, 10), then: map[string]string{"pci:a": "virtio:b", "virtio:b": "scsi:c"}, fail: map[string]error{
		"pci:none": fault.New(fault.NotFound, "nothing answers"), "pci:bad": errors.New("load module x: it is broken")}}
	var said []string
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := Plug(ctx, Config{Loader: n, Sys: sys(t, "pci:a", "pci:none", "pci:bad", "pci:a", ""), Quiet: 100 * time.Millisecond, Most: 20 * time.Second,
		Say:    func(f string, a ...any) { mu.Lock(); said = append(said, fmt.Sprintf(f, a...)); mu.Unlock() },
		Events: func(context.Context) (<-chan string, error) { return n.events, nil }})
	if err != nil || !r.Quiet || r.Devices != 5 || !n.has("loop", "virtio_pci", "pci:a", "virtio:b", "scsi:c") {
		t.Errorf("%+v, %v, loaded %v", r, err, n.loaded)
	}
	mu.Lock()
	if !slices.Equal(said, []string{"load module x: it is broken"}) {
		t.Errorf("said %q", said)
	}
	mu.Unlock()
	n.events <- "usb:late"
	for end := time.Now().Add(10 * time.Second); !n.has("usb:late"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a device that came later was not seen")
		}
	}
}

func TestItDoesNotWaitForEver(t *testing.T) {
	n := &node{events: make(chan string, 10)}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case n.events <- fmt.Sprint("new:", i):
			case <-stop:
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	r, _ := Plug(t.Context(), Config{Loader: n, Sys: t.TempDir(), Quiet: time.Second, Most: 200 * time.Millisecond, Say: t.Logf,
		Events: func(context.Context) (<-chan string, error) { return n.events, nil }})
	if r.Quiet {
		t.Errorf("%+v", r)
	}
}

func TestParseUevent(t *testing.T) {
	for text, want := range map[string]string{
		"add@/devices/x\x00ACTION=add\x00MODALIAS=pci:v1\x00SEQNUM=3\x00": "pci:v1", "remove@/x\x00MODALIAS=pci:v1\x00": "", "": "", "add@/x\x00": "", "libudev\x00\xfe": "",
	} {
		if got := parseUevent([]byte(text)); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestTheKernelIsHeard(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	events, err := Uevents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for range events { // what comes meanwhile is this machine's
	}
}
