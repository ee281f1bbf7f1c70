package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// sample is one measurement.
type sample struct {
	took     time.Duration
	mount    time.Duration // of it, until the tree could be read
	requests int64
	bytes    int64
}

// median is that of each number by itself.
func median(all []sample) sample {
	return sample{
		took: middle(all, func(s sample) time.Duration { return s.took }), mount: middle(all, func(s sample) time.Duration { return s.mount }),
		requests: middle(all, func(s sample) int64 { return s.requests }), bytes: middle(all, func(s sample) int64 { return s.bytes }),
	}
}

func middle[T cmp.Ordered](all []sample, of func(sample) T) T {
	var list []T
	for _, s := range all {
		list = append(list, of(s))
	}
	slices.Sort(list)
	if len(list) == 0 {
		var none T
		return none
	}
	return list[len(list)/2]
}

// rounds measures every subject in turns; one that fails is named, and left out of this workload.
func rounds(ctx context.Context, s setting, list []subject, w workload, once func(subject) (sample, error)) map[string][]sample {
	all := map[string][]sample{}
	failed := map[string]bool{}
	for n := range s.rounds {
		for k := range list {
			sub := list[(n+k)%len(list)]
			if failed[sub.name()] || ctx.Err() != nil {
				continue
			}
			got, err := once(sub)
			if err != nil {
				fmt.Fprintf(os.Stderr, "lazybench: %s: %s: %v\n", w.name, sub.name(), err)
				failed[sub.name()] = true
				delete(all, sub.name())
				continue
			}
			all[sub.name()] = append(all[sub.name()], got)
		}
	}
	return all
}

// complete measures images that are wholly here: with an empty page cache, and again with a full one.
func complete(ctx context.Context, s setting, ready []subject) error {
	var list []subject
	for _, sub := range ready {
		if !sub.lazy() {
			list = append(list, sub)
		}
	}
	head(s, "the image is here", list)
	for _, w := range chosen(s) {
		var warm map[string][]sample
		cold := rounds(ctx, s, list, w, func(sub subject) (sample, error) {
			c, again, err := coldAndWarm(ctx, sub, w)
			if warm == nil {
				warm = map[string][]sample{}
			}
			if err == nil {
				warm[sub.name()] = append(warm[sub.name()], again)
			}
			return c, err
		})
		ratios(s, w.name+", cold", list, cold)
		ratios(s, w.name+", warm", list, warm)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func coldAndWarm(ctx context.Context, sub subject, w workload) (cold, warm sample, err error) {
	if err := sub.cold(ctx, w); err != nil {
		_ = sub.unmount() // what cold had started
		return cold, warm, err
	}
	dir, err := sub.mount(ctx, w)
	if err == nil {
		err = dropCaches()
	}
	if err == nil {
		cold.took, err = timed(func() error { return w.run(ctx, dir) })
	}
	if err == nil {
		warm.took, err = timed(func() error { return w.run(ctx, dir) })
	}
	if e := sub.unmount(); err == nil {
		err = e
	}
	return cold, warm, err
}

// lazy measures images of which nothing is here, from the order to mount them to the end of the workload.
func lazy(ctx context.Context, s setting, ready []subject, web *web, l link) error {
	if err := l.shape(ctx); err != nil {
		return err
	}
	defer func() { _ = link{}.shape(context.WithoutCancel(ctx)) }()
	web.rtt.Store(int64(l.rtt))
	defer web.rtt.Store(0)
	var list []subject
	for _, sub := range ready {
		if sub.lazy() {
			list = append(list, sub)
		}
	}
	fmt.Fprintf(s.out, "\nNothing of the image is here; the web server is behind %s. Time with the mount, of it the mount, bytes sent, requests.\n\n", l.name)
	fmt.Fprintf(s.out, "| |%s\n|---|%s\n", heads(list), strings.Repeat("---|", len(list)))
	for _, w := range chosen(s) {
		if w.local && l.rtt > 0 {
			continue
		}
		all := rounds(ctx, s, list, w, func(sub subject) (sample, error) { return nothingHere(ctx, web, sub, w) })
		fmt.Fprintf(s.out, "| %s |", w.name)
		for _, sub := range list {
			fmt.Fprintf(s.out, " %s |", fetched(all[sub.name()]))
		}
		fmt.Fprintln(s.out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func nothingHere(ctx context.Context, web *web, sub subject, w workload) (got sample, err error) {
	if err := sub.cold(ctx, w); err != nil {
		_ = sub.unmount() // what cold had started
		return got, err
	}
	if err := dropCaches(); err != nil {
		return got, err
	}
	web.counted()
	begun := time.Now()
	dir, err := sub.mount(ctx, w)
	got.mount = time.Since(begun)
	if err == nil {
		err = w.run(ctx, dir)
	}
	got.took = time.Since(begun)
	got.requests, got.bytes = web.counted()
	if e := sub.unmount(); err == nil {
		err = e
	}
	return got, err
}

func chosen(s setting) []workload {
	var list []workload
	for _, w := range s.workloads {
		if strings.Contains(w.name, s.only) {
			list = append(list, w)
		}
	}
	return list
}

func heads(list []subject) string {
	var b strings.Builder
	for _, sub := range list {
		fmt.Fprintf(&b, " %s |", sub.name())
	}
	return b.String()
}

func head(s setting, what string, list []subject) {
	fmt.Fprintf(s.out, "\nTime, and ratio to the first; %s.\n\n| |%s\n|---|%s\n", what, heads(list), strings.Repeat("---|", len(list)))
}

// fetched is the cell of an image that was not here.
func fetched(all []sample) string {
	if len(all) == 0 {
		return "not measured"
	}
	m := median(all)
	return fmt.Sprintf("%.0f ms (%.0f), %.1f MB, %d", ms(m.took), ms(m.mount), float64(m.bytes)/1e6, m.requests)
}

// ratios prints the row of an image that is here.
func ratios(s setting, name string, list []subject, all map[string][]sample) {
	fmt.Fprintf(s.out, "| %s |", name)
	first := time.Duration(0)
	for _, sub := range list {
		if len(all[sub.name()]) == 0 {
			fmt.Fprint(s.out, " not measured |")
			continue
		}
		took := median(all[sub.name()]).took
		if first == 0 {
			first = took
		}
		fmt.Fprintf(s.out, " %.1f ms (%.2f) |", ms(took), float64(took)/float64(first))
	}
	fmt.Fprintln(s.out)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
