package kernellog_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/kernellog"
)

func TestLines(t *testing.T) {
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("NOT TESTED: the kernel's log cannot be written here: ", err)
	}
	defer kmsg.Close()
	say := func(text string) {
		if _, err := kmsg.WriteString(text + "\n"); err != nil {
			t.Skip("NOT TESTED: the kernel's log cannot be written here: ", err)
		}
	}
	word := fmt.Sprintf("kernellog-test-%d", os.Getpid())
	ours := func(line string) bool { return strings.Contains(line, word) }
	say(word + ": too early")
	log := kernellog.Open()
	say(word + ": one; two \x1b[2J")
	say("of others")
	say(word + ": three")
	got := log.Lines(ours)
	want := []string{word + ": one; two ", word + ": three"}
	if len(got) != 2 || !strings.HasPrefix(got[0], want[0]) || strings.Contains(got[0], "\x1b") || got[1] != want[1] {
		t.Errorf("%q, want %q", got, want)
	}
	if again := log.Lines(ours); len(again) != 0 {
		t.Errorf("again: %q", again)
	}
	log.Close()
	if closed := log.Lines(ours); closed != nil {
		t.Errorf("after Close: %q", closed)
	}
}
