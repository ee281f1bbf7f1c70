package nodes

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

const macA, macB = "52:54:00:00:00:0a", "52:54:00:00:00:0b"

func registry() (*Registry, *time.Time) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return New([]Listed{{MAC: macA, Name: "n1", Group: "compute", IP: netip.MustParseAddr("10.1.0.11")}}, func() time.Time { return now }), &now
}

func status(t *testing.T, r *Registry, mac string) Status {
	t.Helper()
	for _, s := range r.All() {
		if s.MAC == mac {
			return s
		}
	}
	t.Fatalf("%s is not known", mac)
	return Status{}
}

func TestANodeGoesFromStageToStage(t *testing.T) {
	r, now := registry()
	step := func(s Seen) {
		t.Helper()
		*now = now.Add(time.Second)
		if _, name, ok := r.See(s); !ok || name != "n1" {
			t.Fatalf("%+v is of %q, %v", s, name, ok)
		}
	}
	step(Seen{MAC: macA, Source: DHCP, Stage: bootstage.Discover, Fresh: true, Platform: "bios"})
	step(Seen{MAC: macA, Source: DHCP, Stage: bootstage.Lease, Addr: netip.MustParseAddr("10.1.0.11")})
	step(Seen{Addr: netip.MustParseAddr("10.1.0.11"), Source: TFTP, Stage: bootstage.Program, Bytes: 100})
	step(Seen{MAC: macA, Source: Report, Stage: bootstage.Image, Error: "500"})
	s := status(t, r, macA)
	if s.Stage != bootstage.Program || s.Error == nil || s.Error.Stage != bootstage.Image || s.Bytes != 100 || s.Boots != 1 || len(s.Stages) != 3 || s.Stages[2].Seconds != 2 {
		t.Errorf("%+v", s)
	}
	step(Seen{MAC: macA, Source: Report, Stage: bootstage.Running, Message: "debian"})
	if s = status(t, r, macA); s.Stage != bootstage.Running || s.Error != nil || s.Message != "debian" {
		t.Errorf("what came after an error: %+v", s)
	}
	step(Seen{MAC: macA, Source: DHCP, Stage: bootstage.Discover, Fresh: true})
	if s = status(t, r, macA); s.Stage != bootstage.Discover || s.Boots != 2 || s.Bytes != 0 || len(s.Stages) != 1 {
		t.Errorf("after it was switched on again: %+v", s)
	}
	if e := r.Events(macA); len(e) != 6 || e[3].Error != "500" {
		t.Errorf("events: %+v", e)
	}
	var b bytes.Buffer
	if err := WriteTable(&b, r.All(), *now); err != nil || !strings.Contains(b.String(), "n1") || !strings.Contains(b.String(), "discover") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Reports of the first stages come once there is a network, and all of them have their true times.
func TestReportsThatComeLateHaveTheirTimes(t *testing.T) {
	r, now := registry()
	began := *now
	at := func(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }
	see := func(came, happened float64, stage bootstage.Stage, state bootstage.State, failed string) {
		*now = at(came)
		r.See(Seen{MAC: macA, Source: Report, Stage: stage, State: state, At: at(happened), Error: failed})
	}
	r.See(Seen{MAC: macA, Source: DHCP, Stage: bootstage.Discover, Fresh: true})
	*now = at(3)
	r.See(Seen{MAC: macA, Source: HTTP, Stage: bootstage.Initramfs})
	*now = at(9)
	r.See(Seen{MAC: macA, Source: HTTP, Stage: bootstage.Image, State: bootstage.Begun}) // overtakes the reports
	see(9, 4, bootstage.Init, bootstage.Begun, "")
	see(9, 5, bootstage.Init, bootstage.Done, "")
	see(9, 6, bootstage.Network, bootstage.Begun, "")
	see(9, 8, bootstage.Network, bootstage.Done, "")
	if s := status(t, r, macA); s.Stage != bootstage.Image || s.State != bootstage.Begun || !s.Since.Equal(at(9)) {
		t.Errorf("reports of what was put the node back: %+v", s)
	}
	see(10, 10, bootstage.Image, bootstage.Failed, "500")
	if s := status(t, r, macA); s.Stage != bootstage.Image || s.State != bootstage.Failed || s.Error == nil {
		t.Errorf("the stage that failed: %+v", s)
	}
	see(12, 12, bootstage.Image, bootstage.Done, "")
	if s := status(t, r, macA); s.Error != nil {
		t.Errorf("the stage is done and its error stays: %+v", s)
	}
	see(13, 13, bootstage.Running, bootstage.Begun, "")
	see(17, 17, bootstage.Running, bootstage.Done, "")
	s := status(t, r, macA)
	var got []string
	for _, e := range s.Stages {
		got = append(got, fmt.Sprintf("%s %s %v-%v", e.Stage, e.State, e.Seconds, e.Ended.Sub(began).Seconds()))
	}
	if g := strings.Join(got, ", "); g != "discover done 0-0, initramfs done 3-3, init done 4-5, network done 6-8, image done 9-12, running done 13-17" {
		t.Error(g)
	}
	if c := strings.Join(s.Cells(at(20)), " "); c != "n1 "+macA+" 10.1.0.11 compute running done 3s 17.0s -" {
		t.Error(c)
	}
	see(18, 18, bootstage.Image, bootstage.Failed, "404") // a container that looks for a file
	if s := status(t, r, macA); s.Stage != bootstage.Running || s.State != bootstage.Done || s.Error == nil {
		t.Errorf("what fails beside: %+v", s)
	}
}

// Times are counted back from when reports come, which takes a while: stages that follow one another stay in their order, and none is shown as
// begun before the one ahead of it.
func TestStagesOfOneMomentAreInTheirOrder(t *testing.T) {
	type report struct {
		stage bootstage.Stage
		state bootstage.State
		came  float64
		at    float64
	}
	for name, c := range map[string]struct {
		reports []report
		want    string
	}{
		"the later one seems earlier": {[]report{{bootstage.Init, bootstage.Begun, 19, 18.6}, {bootstage.Modules, bootstage.Begun, 19.1, 18.4}, {bootstage.Modules, bootstage.Done, 19.2, 18.5}},
			"init begun 18.6, modules done 18.6; in modules"},
		"the earlier one comes last": {[]report{{bootstage.Modules, bootstage.Begun, 19, 18.4}, {bootstage.Init, bootstage.Begun, 19.1, 18.6}},
			"init begun 18.4, modules begun 18.4; in modules"},
		"one is between": {[]report{{bootstage.Init, bootstage.Begun, 19, 18}, {bootstage.Network, bootstage.Begun, 19.1, 18.9}, {bootstage.Modules, bootstage.Begun, 19.2, 19.1}},
			"init begun 18, modules begun 18.9, network begun 18.9; in network"},
		"long ago": {[]report{{bootstage.Container, bootstage.Begun, 19, 18}, {bootstage.Clock, bootstage.Begun, 39, 38}},
			"container begun 18, clock begun 38; in clock"},
		"rescue comes at any time": {[]report{{bootstage.Rescue, bootstage.Begun, 19, 18}, {bootstage.Container, bootstage.Begun, 19.5, 19}},
			"rescue begun 18, container begun 19; in container"},
	} {
		r, now := registry()
		began := *now
		r.See(Seen{MAC: macA, Source: DHCP, Stage: bootstage.Discover, Fresh: true})
		for _, p := range c.reports {
			*now = began.Add(time.Duration(p.came * float64(time.Second)))
			r.See(Seen{MAC: macA, Source: Report, Stage: p.stage, State: p.state, At: began.Add(time.Duration(p.at * float64(time.Second)))})
		}
		s := status(t, r, macA)
		var got []string
		for _, e := range s.Stages[1:] {
			got = append(got, fmt.Sprintf("%s %s %v", e.Stage, e.State, e.Seconds))
			if !e.Ended.IsZero() && e.Ended.Before(e.Time) {
				t.Errorf("%s: %s ends before it begins", name, e.Stage)
			}
		}
		if g := strings.Join(got, ", ") + "; in " + string(s.Stage); g != c.want {
			t.Errorf("%s: %s", name, g)
		}
	}
}

// Where another server gives addresses, that init begins anew shows that a node was switched on.
func TestInitThatBeginsAnewIsABoot(t *testing.T) {
	r, now := registry()
	began := *now
	for i, seconds := range []int{0, 1, 100} { // the second is sent again
		*now = began.Add(time.Duration(seconds) * time.Second)
		r.See(Seen{MAC: macA, Source: Report, Stage: bootstage.Init, State: bootstage.Begun})
		if got, want := status(t, r, macA).Boots, []int{1, 1, 2}[i]; got != want {
			t.Errorf("after %d s the node has booted %d times", seconds, got)
		}
	}
}

func TestAnAddressIsOneNodesOnly(t *testing.T) {
	r, _ := registry()
	a := netip.MustParseAddr("10.1.0.50")
	r.See(Seen{MAC: macA, Addr: a, Source: DHCP})
	r.See(Seen{MAC: macB, Addr: a, Source: DHCP})
	if mac, _ := r.Who(a); mac != macB {
		t.Errorf("%s is of %s", a, mac)
	}
	if s := status(t, r, macA); s.IP != "" {
		t.Errorf("two nodes have %s", s.IP)
	}
	if _, _, ok := r.See(Seen{Addr: netip.MustParseAddr("10.1.0.99"), Source: HTTP}); ok {
		t.Error("an address that is nobody's made a node")
	}
}

func TestInventedNodesAreForgotten(t *testing.T) {
	r, _ := registry()
	for i := range 3 * maxEvents {
		r.See(Seen{MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255), Addr: netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), Source: DHCP})
	}
	if len(r.nodes) != maxOthers+1 || len(r.byAddr) > maxOthers+1 || len(r.Events("")) != maxEvents {
		t.Errorf("%d nodes, %d addresses, %d events are remembered", len(r.nodes), len(r.byAddr), len(r.Events("")))
	}
	status(t, r, macA)
}

func TestWhatIsKnownOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	r, _ := registry()
	if errs := r.Keep(dir); len(errs) > 0 {
		t.Fatal(errs)
	}
	r.See(Seen{MAC: macA, Source: Report, Stage: bootstage.Init, State: bootstage.Begun})
	if err := r.Save(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.See(Seen{MAC: macA, Source: Report, Stage: bootstage.Running})
	r.See(Seen{MAC: macB, Addr: netip.MustParseAddr("10.1.0.50"), Source: DHCP, Stage: bootstage.Lease, Bytes: 7})
	if err := r.Flush(); err != nil { // and then it is killed
		t.Fatal(err)
	}
	for range 3 { // each of the next servers, too
		next, _ := registry()
		if errs := next.Keep(dir); len(errs) > 0 {
			t.Fatal(errs)
		}
		a, b := status(t, next, macA), status(t, next, macB)
		if a.Stage != bootstage.Running || a.Name != "n1" || a.Boots != 1 || len(a.Stages) != 2 || b.IP != "10.1.0.50" || b.Bytes != 7 {
			t.Errorf("%+v\n%+v", a, b)
		}
		if mac, _ := next.Who(netip.MustParseAddr("10.1.0.50")); mac != macB {
			t.Errorf("the address is of %q", mac)
		}
		if err := next.Save(context.Background()); err != nil {
			t.Fatal(err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("what is in %s is left, too: %v", fileName, files)
		}
	}
}

func TestWhatIsDamagedIsTold(t *testing.T) {
	for name, text := range map[string]string{fileName: "[{", "nodes.00000000000000000001.jsonl": "{}\n{\n{\"seq\":1,\"seen\":{\"MAC\":\"x\"}}\n{\"seq\":2,\"seen\":{\"MAC\":\"" + macA + "\"}}\n{"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r, _ := registry()
		if errs := r.Keep(dir); len(errs) != 1 {
			t.Errorf("%s: damage is not told: %v", name, errs)
		}
		if name != fileName && status(t, r, macA).Boots != 1 {
			t.Error("what is not damaged is left out, too")
		}
	}
}
