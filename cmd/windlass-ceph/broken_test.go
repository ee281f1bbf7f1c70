//go:build ceph

package main

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/image/rbd"
)

// halfway starts a publishing and holds it in the middle, by stopping the OSD. The function answered lets it go on.
func (l *lab) halfway(path, to string, more ...string) (p *program, goOn func()) {
	l.Helper()
	p = l.program("windlass-ceph", append([]string{"publish", path, to, "-j", "2"}, more...)...).start()
	p.err.await(l, "writing  10 %")
	if err := l.ceph.Signal(l.ctx, "osd", unix.SIGSTOP); err != nil {
		l.Fatal(err)
	}
	stopped := true
	goOn = func() {
		if stopped {
			stopped = false
			if err := l.ceph.Signal(l.ctx, "osd", unix.SIGCONT); err != nil {
				l.Error(err)
			}
		}
	}
	l.Cleanup(goOn)
	if strings.Contains(p.err.String(), "writing  100 %") {
		l.Fatal("it was over before it could be stopped")
	}
	return p, goOn
}

// full is a file without holes, that takes a while.
func (l *lab) full(name string) string { return l.file(name, "full", 192<<20, 8<<20, 8<<20) }

// testKilled: what a killed publisher leaves does not look finished, is listed, and removed by the next.
func testKilled(l *lab) {
	path := l.full("killed")
	p, goOn := l.halfway(path, "rbd:rbd/killed")
	p.signal(unix.SIGKILL)
	p.wait()
	goOn()
	if there := l.list("rbd:rbd"); there["killed"].Name.Image != "" {
		l.Fatalf("half an image has the name: %+v", there["killed"])
	}
	state := func() (rbd.State, rbd.Info) {
		for name, i := range l.list("rbd:rbd") {
			if strings.HasPrefix(name, "killed.") {
				return i.State, i
			}
		}
		return "", rbd.Info{}
	}
	if got, info := state(); got != rbd.InProgress && got != rbd.Unfinished || info.Of != "killed" {
		l.Errorf("at first it is listed as %+v", info)
	}
	late := time.Now().Add(time.Minute)
	for got, info := state(); got != rbd.Unfinished; got, info = state() { // the cluster tells nobody when it forgets a watcher
		if time.Now().After(late) {
			l.Fatalf("it is listed as %+v", info)
		}
	}
	_, info := state()
	l.run(0, []string{"publish", path, "rbd:rbd/killed"}, info.Name.Image+" was begun just now")
	l.rbd("rename", "rbd/"+info.Name.Image, "rbd/killed.windlass-part-680000000badcafe") // it grows old
	l.run(0, []string{"remove", "rbd:rbd/killed", "--force"})
	l.run(0, []string{"publish", path, "rbd:rbd/killed"}, "which an earlier attempt has left")
	l.holds("rbd/killed@v1", path)
	l.only("killed", "killed")
}

// testKilledAmidSwap: between its two renames the name is nobody's; the next publish says how to bring it back.
func testKilledAmidSwap(l *lab) {
	path := l.small("lost", "lost")
	const old, part = "lost.windlass-old-20260504T030201.000Z", "lost.windlass-part-680000000badcafe"
	for _, name := range []string{old, part} {
		l.run(0, []string{"publish", path, "rbd:rbd/lost"})
		l.rbd("rename", "rbd/lost", "rbd/"+name)
	}
	l.run(0, []string{"publish", path, "rbd:rbd/lost"}, "`rbd mv rbd/"+old+" rbd/lost` brings back what it was", "removing rbd:rbd/"+part)
	l.only("lost", "lost", old)
	l.run(0, []string{"remove", "rbd:rbd/lost", "--force"})
	if p := l.run(0, []string{"publish", path, "rbd:rbd/lost"}); strings.Contains(p.err.String(), "rbd mv") {
		l.Errorf("what was removed is said to be lost: %s", p.err.String())
	}
}

// testInterrupted: nothing is left, whichever of the two signals it is.
func testInterrupted(l *lab) {
	path := l.full("interrupted")
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
		p, goOn := l.halfway(path, "rbd:rbd/interrupted")
		p.signal(sig)
		p.err.await(l, "interrupted; taking back")
		goOn()
		if code := p.wait(); code != exitInterrupted {
			l.Errorf("%v: exit code %d\n%s", sig, code, p.err.String())
		}
		l.only("interrupted")
	}
}

// testChanged: a file that is written meanwhile makes no image.
func testChanged(l *lab) {
	path := l.full("changed")
	p, goOn := l.halfway(path, "rbd:rbd/changed")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("more"); err != nil {
		l.Fatal(err)
	}
	goOn()
	if code := p.wait(); code != exitConflict || !strings.Contains(p.err.String(), "changed while it was read") {
		l.Errorf("exit code %d: %s", code, p.err.String())
	}
	l.only("changed")
}

// testNoAnswer: a cluster that says nothing any more is given up.
func testNoAnswer(l *lab) {
	path := l.full("noanswer")
	p, goOn := l.halfway(path, "rbd:rbd/noanswer", "--timeout", "2s")
	if code := p.wait(); code != exitTimeout {
		l.Errorf("exit code %d", code)
	}
	for _, want := range []string{"write rbd:rbd/noanswer.windlass-part-", "timed out", "ceph -s"} {
		if !strings.Contains(p.err.String(), want) {
			l.Errorf("%q is not in %s", want, p.err.String())
		}
	}
	goOn()
	if there := l.list("rbd:rbd"); there["noanswer"].Name.Image != "" {
		l.Errorf("half an image has the name: %+v", there["noanswer"])
	}
}

// testTwoAtOnce: of two that publish the same, one does, and the other is told.
func testTwoAtOnce(l *lab) {
	path := l.small("two", "two")
	slow, goOn := l.halfway(l.full("slow"), "rbd:rbd/two")
	fast := l.program("windlass-ceph", "publish", path, "rbd:rbd/two").start()
	goOn()
	codes := []int{slow.wait(), fast.wait()}
	slices.Sort(codes)
	if !slices.Equal(codes, []int{exitOK, exitConflict}) {
		l.Errorf("exit codes %v:\n%s%s", codes, slow.err.String(), fast.err.String())
	}
	l.only("two", "two")
	if l.list("rbd:rbd")["two"].State != rbd.Published {
		l.Errorf("%+v", l.list("rbd:rbd")["two"])
	}
}
