package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/internal/config"
)

func TestWhatIsShown(t *testing.T) {
	d := newDaemon(t)
	for name, args := range map[string][]string{
		"ps":              {"ps"},
		"ps-running":      {"ps", "--state", "running"},
		"ps-mounts":       {"ps", "mounts"},
		"ps-attachments":  {"ps", "attachments"},
		"ps-all":          {"ps", "all"},
		"ps-all-ids":      {"ps", "all", "-q"},
		"ps-json":         {"ps", "attachments", "--kind", "local", "-o", "json"},
		"ps-yaml":         {"ps", "-o", "yaml"},
		"tree":            {"tree"},
		"tree-ascii":      {"tree", "--ascii"},
		"tree-one":        {"tree", "batch-1"},
		"inspect":         {"inspect", "web"},
		"inspect-json":    {"inspect", "8", "-o", "json"},
		"inspect-several": {"inspect", "1", "3"},
		"version-client":  {"version", "--client", "-o", "json"},
		"help":            {"--help"},
		"help-run":        {"run", "--help"},
		"help-mount":      {"mount"},
		"help-exit-codes": {"help", "exit-codes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := d.windlass(t, args...)
			r.want(t, 0, "")
			golden(t, filepath.Join("testdata", name+".golden"), r.out)
		})
	}
}

func TestTheTreeIsASCIIWhereTheLocaleIsNotUTF8(t *testing.T) {
	d := newDaemon(t)
	want, err := os.ReadFile("testdata/tree-ascii.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range []map[string]string{{"LANG": ""}, {"LANG": "C"}, {"LC_ALL": "POSIX"}, {"LC_CTYPE": "de_DE.ISO-8859-1"}} {
		if r := d.with(t, env, nil, "tree"); r.out != string(want) {
			t.Errorf("%v: %s", env, r.out)
		}
	}
}

func TestAnEmptyListIsAListInJSON(t *testing.T) {
	d := newDaemon(t)
	r := d.windlass(t, "ps", "--state", "paused", "-o", "json")
	r.want(t, 0, "")
	if r.out != "[]\n" {
		t.Fatalf("got %q", r.out)
	}
}

func TestColourIsForTerminalsThatWantIt(t *testing.T) {
	_, slave := openPTY(t)
	for name, tc := range map[string]struct {
		env map[string]string
		out any
		on  bool
	}{
		"terminal": {nil, slave, true},
		"pipe":     {nil, &strings.Builder{}, false},
		"NO_COLOR": {map[string]string{"NO_COLOR": "1"}, slave, false},
		"dumb":     {map[string]string{"TERM": "dumb"}, slave, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{opts: Options{Env: func(n string) (string, bool) { v, ok := tc.env[n]; return v, ok }}}
			p := a.palette(tc.out.(interface{ Write([]byte) (int, error) }))
			if got := p.paint(stateColour("running"), "x") != "x"; got != tc.on {
				t.Fatalf("colour: %v, want %v", got, tc.on)
			}
		})
	}
}

func TestTextsOfOthersCannotDriveTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain":            "plain",
		"a\x1b[2Jb":        `a\x1b[2Jb`,
		"bell\a":           `bell\x07`,
		"c1 \u009b31m":     `c1 \x9b31m`,
		"bidi \u202e x":    "bidi � x",
		"bad \xff":         "bad �",
		"two\nlines":       "two\nlines",
		"a tab\there":      "a tab here",
		"Grüße, 日本":        "Grüße, 日本",
		"carriage\rreturn": `carriage\x0dreturn`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestEveryCommandSaysWhatItIsAndGivesExamples(t *testing.T) {
	eachCommand((&app{}).root(), func(c *cobra.Command) {
		if c.Short == "" || c.Runnable() && c.Example == "" {
			t.Errorf("%s has no summary or no example", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			if line != "" && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented", c.CommandPath(), line)
			}
		}
	})
}

// eachCommand visits the commands of ours, parents first.
func eachCommand(c *cobra.Command, fn func(*cobra.Command)) {
	fn(c)
	for _, child := range c.Commands() {
		if child.Name() != "help" && child.Name() != "completion" {
			eachCommand(child, fn)
		}
	}
}

func TestTheReferenceIsUpToDate(t *testing.T) {
	root := (&app{opts: Options{Version: "x"}}).root()
	var b strings.Builder
	b.WriteString("# The command line\n\n" +
		"What `windlass COMMAND --help` says, in one place. `go test ./internal/cli -update` writes this file.\n\n" +
		"- [Exit codes](#exit-codes)\n")
	eachCommand(root, func(c *cobra.Command) {
		if c.Runnable() {
			b.WriteString("- [" + c.CommandPath() + "](#" + strings.ReplaceAll(c.CommandPath(), " ", "-") + "): " + c.Short + "\n")
		}
	})
	b.WriteString("\n## Exit codes\n\n```text\n" + exitCodesTopic().Long + "\n```\n")
	b.WriteString("\n## Flags of all commands\n\n```text\n" + root.PersistentFlags().FlagUsages() + "```\n")
	eachCommand(root, func(c *cobra.Command) {
		if !c.Runnable() {
			return
		}
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		b.WriteString("\n## " + c.CommandPath() + "\n\n" + text + "\n\n```text\n" + c.UseLine() + "\n```\n")
		if c.Example != "" {
			b.WriteString("\nExamples:\n\n```sh\n" + dedent(c.Example) + "\n```\n")
		}
		if flags := c.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
			b.WriteString("\nFlags:\n\n```text\n" + flags.FlagUsages() + "```\n")
		}
	})
	golden(t, "../../docs/cli.md", b.String())
}

func dedent(s string) string {
	return strings.ReplaceAll(strings.TrimPrefix(s, "  "), "\n  ", "\n")
}

func TestCompletionOffersNames(t *testing.T) {
	d := newDaemon(t)
	r := d.windlass(t, "__complete", "stop", "")
	if r.code != 0 || !strings.Contains(r.out, "web\trunning\n") || !strings.Contains(r.out, "batch-1\texited\n") || !strings.Contains(r.out, "11\tdead\n") {
		t.Fatalf("got %+v", r)
	}
	if r := d.windlass(t, "__complete", "stop", "web", "w"); strings.Contains(r.out, "web") {
		t.Fatalf("web is offered twice: %s", r.out)
	}
	r = run(t, map[string]string{"WINDLASS_SOCKET": "/nonexistent/s"}, nil, "windlass", "__complete", "stop", "")
	if r.code != 0 || strings.HasPrefix(r.out, "w") {
		t.Fatalf("without a daemon: %+v", r)
	}
}

func TestTheDaemonsVersionIsShownBesideOurs(t *testing.T) {
	d := newDaemon(t)
	d.on("GET /info", infoHandler)
	r := d.windlass(t, "version")
	r.want(t, 0, "")
	for _, want := range []string{"client  1.2.3", "daemon  9.9", "unified"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is missing from\n%s", want, r.out)
		}
	}
	r = run(t, map[string]string{"WINDLASS_SOCKET": "/nonexistent/s"}, nil, "windlass", "version", "-o", "json")
	r.want(t, exitUnreachable, "cannot reach the daemon at /nonexistent/s")
	var v map[string]any
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || v["daemon"] != nil {
		t.Fatalf("got %s, %v", r.out, err)
	}
}

func TestTheClientKnowsTheDaemonsDefaultSocket(t *testing.T) {
	a := &app{opts: Options{Env: func(string) (string, bool) { return "", false }}}
	daemon, err := a.connect()
	if err != nil || daemon.addr != config.Default().SocketPath {
		t.Fatalf("got %+v, %v", daemon, err)
	}
}
