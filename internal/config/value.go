package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Size is a number of bytes. It reads 64K, 1.5MiB and 1048576; K is 1024.
type Size int64

// String gives it in the largest unit that it is a whole number of, so that it reads back as what it was.
func (s Size) String() string {
	n, unit := int64(s), 0
	for units := " KMGT"; n != 0 && n%1024 == 0 && unit < len(units)-1; unit++ {
		n /= 1024
	}
	return strings.TrimSpace(strconv.FormatInt(n, 10) + string(" KMGT"[unit]))
}

// Set reads it.
func (s *Size) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size: write it as 64K, 10M or 1G", text)
	}
	*s = Size(n)
	return nil
}

// Type names it in the help of a flag.
func (s *Size) Type() string { return "size" }

// value is one setting in a Config. It has the methods of pflag.Value; Set replaces what was there.
type value interface {
	String() string
	Set(text string) error
	Type() string
}

type stringValue string

func (v *stringValue) String() string        { return string(*v) }
func (v *stringValue) Set(text string) error { *v = stringValue(text); return nil }
func (v *stringValue) Type() string          { return "string" }

type intValue int

func (v *intValue) String() string { return strconv.Itoa(int(*v)) }
func (v *intValue) Type() string   { return "number" }
func (v *intValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", text)
	}
	*v = intValue(n)
	return nil
}

type boolValue bool

func (v *boolValue) String() string { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) Type() string   { return "bool" }
func (v *boolValue) Set(text string) error {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", text)
	}
	*v = boolValue(b)
	return nil
}

type durationValue time.Duration

func (v *durationValue) Type() string { return "duration" }

// String leaves out the zeros that time.Duration writes: 2m, not 2m0s.
func (v *durationValue) String() string {
	s := time.Duration(*v).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (v *durationValue) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration: write it as 500ms, 45s or 2m", text)
	}
	*v = durationValue(d)
	return nil
}

// listValue reads words with commas between them.
type listValue []string

func (v *listValue) String() string { return strings.Join(*v, ",") }
func (v *listValue) Type() string   { return "list" }
func (v *listValue) Set(text string) error {
	*v = nil
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			*v = append(*v, word)
		}
	}
	return nil
}
