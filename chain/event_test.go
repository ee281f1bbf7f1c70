package chain

import (
	"context"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
)

func contextFor(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), 10*time.Second)
}

func types(events <-chan *models.Event) (got []string) {
	for e := range events {
		got = append(got, e.Type)
	}
	return got
}

func TestFailureIsToldWithItsTimeline(t *testing.T) {
	n := newNode()
	n.failAt = 2
	c := open(t, n, runDir(t))
	if _, err := c.CreateContainer(t.Context(), nested("a")); err == nil {
		t.Fatal("created")
	}
	since := int64(0)
	for e := range c.Events(t.Context(), &since, false) {
		if e.Type == "container.failed" {
			if e.Name != "a" || len(e.Timeline) == 0 || e.Timeline[len(e.Timeline)-1].Error == "" {
				t.Errorf("the failure says too little: %+v", e)
			}
			return
		}
	}
	t.Error("the failure was not told")
}

func TestReaderThatComesBackLateIsToldOfTheGap(t *testing.T) {
	b := newBus(0, func(int64) {})
	b.limit = 8
	for range 20 {
		b.publish(&models.Event{Type: "x"})
	}
	c := &Chain{bus: b}
	since := int64(3)
	got := types(c.Events(t.Context(), &since, false))
	if len(got) < 2 || got[0] != GapEvent || got[1] != "x" {
		t.Errorf("got %v, want a gap first", got)
	}
	since = 20
	if got := types(c.Events(t.Context(), &since, false)); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

func TestEventNumbersGoOnAfterARestart(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	create(t, c, nested("a"))
	last := c.bus.newest()
	c.Close()
	c = open(t, n, dir)
	create(t, c, nested("b"))
	for e := range c.Events(t.Context(), &last, false) {
		if e.ID <= last && e.Type != GapEvent {
			t.Errorf("event %d was given again: %s", e.ID, e.Type)
		}
	}
}
