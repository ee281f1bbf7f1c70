package cli

import "testing"

// On the machine of the tests the first process is not windlass: it must not be asked, whoever runs them.
func TestANodeThatIsNotOursIsNotEnded(t *testing.T) {
	d := newDaemon(t)
	for _, verb := range []string{"poweroff", "reboot", "halt"} {
		for _, args := range [][]string{{verb}, {verb, "--force"}} {
			d.windlass(t, args...).want(t, exitFailed, "not windlass's init")
		}
		d.windlass(t, verb, "now").want(t, exitUsage, "now")
	}
}
