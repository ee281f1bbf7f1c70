package netboot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/test/netload"
)

// loadVar is how many nodes boot at once in the long form of the test, such as 4000.
const loadVar = "WINDLASS_NETBOOT_LOAD"

// Many nodes are switched on at once, and in the middle of it the server is killed and started again: each has an address of its own, the same
// from firmware to the running system, and arrives.
func TestManyNodesBootAtOnce(t *testing.T) {
	l := newLoad(t, 300, 256<<10, 768<<10)
	if n, err := strconv.Atoi(os.Getenv(loadVar)); err == nil {
		l = newLoad(t, n, 1<<20, 3<<20)
	}
	l.run(t)
}

// load is a wire with a server and many nodes.
type load struct {
	dir, config string
	n           int
	boot        *netload.Boot
	codes       [600]atomic.Int64
	server      *service
	rss         int64   // the most that a server had, in bytes
	cpu         float64 // seconds of processor that servers took
}

const loadURL = "http://" + netload.ServerAddr + ":8080"

func newLoad(t *testing.T, n, kernel, initramfs int) *load {
	l := &load{dir: t.TempDir(), n: n}
	l.boot = &netload.Boot{URL: loadURL, Sums: map[string]uint32{}, Program: "undionly.kpxe", Image: "/images/debian.sqsh", Parts: 5, Size: 8 << 20,
		Status: func(code int) { l.codes[min(code, 599)].Add(1) }}
	for name, size := range map[string]int{"files/vmlinuz": kernel, "files/base.img": initramfs, "images/debian.sqsh": int(l.boot.Size), "ipxe/undionly.kpxe": 74_213} {
		path := filepath.Join(l.dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		data := content(name, size)
		must(t, os.WriteFile(path, data, 0o644))
		l.boot.Sums["/"+name] = crc32.ChecksumIEEE(data)
		if name, ok := strings.CutPrefix(name, "ipxe/"); ok {
			l.boot.Sums["tftp:"+name] = crc32.ChecksumIEEE(data)
		}
	}
	l.config = filepath.Join(l.dir, "netboot.yaml")
	must(t, os.WriteFile(l.config, []byte(l.site()), 0o644))
	return l
}

// site lists a quarter of the nodes with an address, and half of them without; the others are not listed.
func (l *load) site() string {
	var b bytes.Buffer
	b.WriteString(`
state_dir: state
http: {listen: ":8080"}
interfaces: [{name: eth0, mode: dhcp}]
subnets: [{subnet: ` + netload.Prefix + `, ranges: [` + netload.PoolFirst + `-10.1.111.254], lease_time: 10m}]
files: files
images: images
ipxe: {dir: ipxe}
unknown: default-group
default_group: compute
groups: {compute: {kernel: vmlinuz, initramfs: [base.img], command_line: "windlass.container={{image . \"debian.yaml\"}}"}}
nodes:
`)
	for i := range l.n * 3 / 4 {
		ip := ""
		if i < l.n/4 {
			ip = fmt.Sprintf("ip: 10.1.%d.%d, ", 112+i/250, 1+i%250)
		}
		fmt.Fprintf(&b, "  - {name: n%d, mac: '%s', %sgroup: compute}\n", i, netload.MAC(i), ip)
	}
	return b.String()
}

func (l *load) serve(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	l.server = start(t, []string{serveVar + "=" + l.config, serveQuietVar + "=yes"}, "ip", "netns", "exec", netload.Server, self)
	l.server.log.wait(t, "netboot is ready")
}

func (l *load) run(t *testing.T) {
	must(t, netload.Wire())
	t.Cleanup(func() { must(t, netload.Unwire()) })
	l.serve(t)
	before := l.rest(t)
	ether, err := netload.OpenEther(netload.NodesSide)
	must(t, err)
	defer ether.Close()
	l.boot.Ether = ether

	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	figures, errs := make([]netload.Figures, l.n), make([]error, l.n)
	var all sync.WaitGroup
	began := time.Now()
	for i := range l.n {
		all.Go(func() { figures[i], errs[i] = l.boot.Run(ctx, netload.MAC(i)) })
	}
	all.Go(func() { l.killHalfway(t, ctx) })
	all.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			t.Errorf("a node did not arrive: %v", err)
		}
	}
	l.check(t, figures)
	l.settle(t, before)
	l.tell(t, figures, took)
}

// rest gives the metrics of a server that has started all that it runs.
func (l *load) rest(t *testing.T) map[string]float64 {
	for last := 0.0; ; time.Sleep(300 * time.Millisecond) { // nobody tells of it
		m := l.metrics(t)
		if now := m["go_goroutines"]; now == last {
			return m
		} else {
			last = now
		}
	}
}

// killHalfway kills the server as soon as a third of the nodes have their script, and starts it again.
func (l *load) killHalfway(t *testing.T, ctx context.Context) {
	for ctx.Err() == nil && l.metrics(t)[`windlass_netboot_http_requests_total{code="200",method="GET",route="script"}`] < float64(l.n)/3 {
		time.Sleep(50 * time.Millisecond) // how far they are is not told otherwise
	}
	l.noteRSS(t)
	l.cpu += l.metrics(t)["process_cpu_seconds_total"]
	must(t, l.server.cmd.Process.Signal(syscall.SIGKILL))
	l.server.cmd.Wait()
	l.serve(t)
}

// metrics are the server's, by name and labels.
func (l *load) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	resp, err := (&http.Client{Timeout: time.Minute}).Get(loadURL + "/metrics")
	if err != nil {
		t.Errorf("the metrics cannot be had: %v", err)
		return nil
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	must(t, err)
	m := map[string]float64{}
	for line := range strings.Lines(b.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] = v
		}
	}
	return m
}

// noteRSS notes the most memory that the server has had. `ip netns exec` has become the server.
func (l *load) noteRSS(t *testing.T) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.server.cmd.Process.Pid))
	must(t, err)
	_, text, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
	must(t, err)
	l.rss = max(l.rss, kib<<10)
}

// check looks at what all nodes have together.
func (l *load) check(t *testing.T, figures []netload.Figures) {
	has := map[string]int{}
	for i, f := range figures {
		if other, ok := has[f.Address.String()]; ok {
			t.Errorf("%s was given to nodes %d and %d", f.Address, other, i)
		}
		has[f.Address.String()] = i
	}
	for code := 400; code < len(l.codes); code++ {
		if n := l.codes[code].Load(); n > 0 {
			t.Errorf("%d requests were answered by %d", n, code)
		}
	}
	arrived := 0
	for _, s := range l.nodes(t) {
		if s.Stage == bootstage.Running && s.State == bootstage.Done && s.IP != "" && figures[has[s.IP]].Address.String() == s.IP {
			arrived++
		}
	}
	if arrived != l.n {
		t.Errorf("/nodes shows %d of %d nodes as running, with their addresses", arrived, l.n)
	}
}

func (l *load) nodes(t *testing.T) []nodes.Status {
	resp, err := http.Get(loadURL + "/nodes")
	must(t, err)
	defer resp.Body.Close()
	var all []nodes.Status
	must(t, json.NewDecoder(resp.Body).Decode(&all))
	return all
}

// settle waits until the server has given back what the nodes cost it.
func (l *load) settle(t *testing.T, before map[string]float64) {
	l.noteRSS(t)
	l.cpu += l.metrics(t)["process_cpu_seconds_total"]
	if most := int64(96<<20) + int64(l.n)*(64<<10); l.rss > most && !raced {
		t.Errorf("the server has had %d MiB of memory, more than %d MiB", l.rss>>20, most>>20)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		now := l.metrics(t)
		files, routines := now["process_open_fds"]-before["process_open_fds"], now["go_goroutines"]-before["go_goroutines"]
		if files <= 2 && routines <= 4 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the server holds %v descriptors and %v goroutines more than before", files, routines)
			return
		}
		time.Sleep(200 * time.Millisecond) // nobody tells of it otherwise
	}
}

func (l *load) tell(t *testing.T, figures []netload.Figures, took time.Duration) {
	quantiles := func(of func(netload.Figures) time.Duration) string {
		var all []time.Duration
		for _, f := range figures {
			all = append(all, of(f))
		}
		slices.Sort(all)
		return fmt.Sprintf("%.2f/%.2f/%.2f s", all[len(all)/2].Seconds(), all[len(all)*99/100].Seconds(), all[len(all)-1].Seconds())
	}
	var messages, again, retries int
	for _, f := range figures {
		messages, again, retries = messages+f.Messages, again+f.Again, retries+f.Retries
	}
	t.Logf("figure: %d nodes booted in %.1f s, the server killed in the middle; median/99%%/longest: lease %s, later ones %s, boot program %s, script to initramfs %s, all %s",
		l.n, took.Seconds(), quantiles(func(f netload.Figures) time.Duration { return f.Lease }),
		quantiles(func(f netload.Figures) time.Duration { return f.Later }), quantiles(func(f netload.Figures) time.Duration { return f.TFTP }),
		quantiles(func(f netload.Figures) time.Duration { return f.Kernel }), quantiles(func(f netload.Figures) time.Duration { return f.All }))
	t.Logf("figure: %.2f DHCP messages a node (6 at best), %d TFTP packets and %d requests sent again, at most %d MiB of memory, %.1f ms of processor a node",
		float64(messages)/float64(l.n), again, retries, l.rss>>20, 1000*l.cpu/float64(l.n))
}
