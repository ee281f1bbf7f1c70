package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Flags holds what was said by flags until Load puts it above the other sources.
type Flags struct {
	File string // --config; empty is DefaultFile, if it is there
	set  *pflag.FlagSet
}

// Register adds the flags of all settings and --config to the set.
func (f *Flags) Register(set *pflag.FlagSet) {
	f.set = set
	set.StringVar(&f.File, "config", "", "configuration file (default "+DefaultFile+", if it is there)")
	defaults := Default()
	for _, s := range settings() {
		v := s.value(&defaults)
		flag := set.VarPF(&said{typ: v.Type(), def: v.String()}, s.flag(), "", s.help)
		if v.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// said keeps the words of a flag as they are: they are judged with all the rest, so that all problems are told at once.
type said struct {
	typ, def string
	words    []string
}

func (s *said) Type() string { return s.typ }
func (s *said) Set(word string) error {
	s.words = append(s.words, word)
	return nil
}

func (s *said) String() string {
	switch {
	case len(s.words) == 0:
		return s.def
	case s.typ == "list":
		return strings.Join(s.words, ",")
	}
	return s.words[len(s.words)-1]
}

func (f *Flags) get(name string) (string, bool) {
	if f == nil || f.set == nil || !f.set.Changed(name) {
		return "", false
	}
	return f.set.Lookup(name).Value.String(), true
}

// Problems is everything that is wrong with a configuration. Each says where it is.
type Problems []string

func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0]
	}
	return fmt.Sprintf("%d problems with the configuration:\n  %s", len(p), strings.Join(p, "\n  "))
}

// Load puts the configuration together: defaults, the file, the environment, flags. A file that was not named may be missing. flags
// may be nil. The error is of type Problems.
func Load(flags *Flags, env func(string) (string, bool)) (Config, error) {
	var problems Problems
	file, err := readFile(flags)
	if err != nil && !errors.As(err, &problems) {
		problems = Problems{err.Error()}
	}
	c := Default()
	for _, s := range settings() {
		problems = append(problems, s.resolve(&c, file, env, flags)...)
	}
	if problems = append(problems, c.validate()...); len(problems) > 0 {
		return c, problems
	}
	return c, nil
}

// resolve sets one setting from each source that has it, weakest first.
func (s setting) resolve(c *Config, file fileValues, env func(string) (string, bool), flags *Flags) (problems Problems) {
	set := func(where, text string) {
		v := s.value(c)
		before := v.String()
		if err := v.Set(text); err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", where, err))
			_ = v.Set(before) // what follows judges the rest
		}
	}
	if v, ok := file[s.key]; ok {
		set(v.where+": "+s.key, v.text)
	}
	names := []string{s.env()}
	if s.scheme != "" && c.Listens(s.scheme) {
		names = append(s.forerunner[:len(s.forerunner):len(s.forerunner)], s.env())
	}
	for _, name := range names {
		if text, ok := env(name); ok && text != "" {
			set("environment variable "+name, text)
		}
	}
	if text, ok := flags.get(s.flag()); ok {
		set("flag --"+s.flag(), text)
	}
	return problems
}
