package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
)

// results are the boots of every subject, by its name, and those that are left out because they failed.
type results struct {
	all    map[string][]sample
	failed map[string]bool
}

// boots has every subject boot once a round, in turns, and prints the table. One that fails is named, and left out.
func boots(ctx context.Context, s setting, w *web, list []subject) error {
	r := results{all: map[string][]sample{}, failed: map[string]bool{}}
	for n := range s.rounds {
		if err := round(ctx, s, w, append(list[n%len(list):len(list):len(list)], list[:n%len(list)]...), r); err != nil {
			return err
		}
	}
	table(s, list, r.all)
	return nil
}

// round has each boot once, in one slot, so that what else runs on this computer is much the same for all.
func round(ctx context.Context, s setting, w *web, list []subject, r results) error {
	free, err := slot(ctx, s.cache)
	if err != nil {
		return err
	}
	defer free()
	for _, sub := range list {
		if r.failed[sub.name] {
			continue
		}
		got, err := boot(ctx, s, w, sub, s.memory)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "bench-boot: %s is left out: %v\n", sub.name, err)
			r.failed[sub.name] = true
			delete(r.all, sub.name)
			continue
		}
		load, _ := os.ReadFile("/proc/loadavg") // it is only shown
		fmt.Fprintf(os.Stderr, "bench-boot: %s: %.1f s, %.1f s of the processors, %.1f MB, %d MiB used; load %.4s\n", sub.name, got.uptime.Seconds(), got.cpu.Seconds(),
			float64(got.bytes)/1e6, got.used>>10, load)
		r.all[sub.name] = append(r.all[sub.name], got)
	}
	return nil
}

func table(s setting, list []subject, all map[string][]sample) {
	fmt.Fprintf(s.out, "\nA node with 2 processors and %d MiB; medians of %d boots, and between what they lie.\n\n", s.memory, s.rounds)
	fmt.Fprintf(s.out, "| | seconds from the kernel's start to ready | ratio | from power-on | processor seconds of the emulator | MB from the web server | initramfs, MB | MiB used when ready |\n|---|---|---|---|---|---|---|---|\n")
	first := 0.0
	for _, sub := range list {
		of := all[sub.name]
		if len(of) == 0 {
			fmt.Fprintf(s.out, "| %s | not measured | | | | | | |\n", sub.name)
			continue
		}
		up := column(of, func(v sample) float64 { return v.uptime.Seconds() })
		if first == 0 {
			first = middle(up)
		}
		fmt.Fprintf(s.out, "| %s | %.1f (%.1f–%.1f) | %.2f | %.1f | %.1f | %.1f | %.1f | %.0f |\n", sub.name, middle(up), slices.Min(up), slices.Max(up), middle(up)/first,
			middle(column(of, func(v sample) float64 { return v.powered.Seconds() })), middle(column(of, func(v sample) float64 { return v.cpu.Seconds() })), middle(column(of, func(v sample) float64 { return float64(v.bytes) / 1e6 })),
			mebibytes(sub.initrd)*(1<<20)/1e6, middle(column(of, func(v sample) float64 { return float64(v.used >> 10) })))
	}
}

func column(all []sample, of func(sample) float64) (list []float64) {
	for _, v := range all {
		list = append(list, of(v))
	}
	return list
}

// middle is the median, the upper of two.
func middle[T cmp.Ordered](all []T) T {
	list := slices.Sorted(slices.Values(all))
	if len(list) == 0 {
		var none T
		return none
	}
	return list[len(list)/2]
}

// The bounds of the search for the least memory, in MiB: with leastNone nothing boots, with leastMost everything does. It comes as near as
// leastStep.
const leastNone, leastMost, leastStep = 128, 768, 32

// leasts finds out with how little memory every subject still boots: the peak of what it needs.
func leasts(ctx context.Context, s setting, w *web, list []subject) error {
	fmt.Fprintf(s.out, "\n| | least memory that it boots with, MiB |\n|---|---|\n")
	for _, sub := range list {
		mib, err := least(ctx, s, w, sub)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "| %s | %d |\n", sub.name, mib)
	}
	return nil
}

func least(ctx context.Context, s setting, w *web, sub subject) (int, error) {
	low, high := leastNone, leastMost
	for high-low > leastStep {
		free, err := slot(ctx, s.cache)
		if err != nil {
			return 0, err
		}
		try := (low + high) / 2 / leastStep * leastStep
		_, err = boot(ctx, s, w, sub, try)
		free()
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "bench-boot: %s with %d MiB: %v\n", sub.name, try, err)
		if err != nil {
			low = try
		} else {
			high = try
		}
	}
	return high, nil
}
