package iscsi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	// minTry is the least time that an address gets when there are several.
	minTry = 2 * time.Second
	// maxPlaces is how many addresses are tried. Who tells of them may not be who he says.
	maxPlaces = 16
	// maxTold is how many errors are told of as many addresses.
	maxTold = 4
)

// places gives the addresses to try, in turn.
func (l *link) places(ctx context.Context, auth login.Auth) ([]login.Portal, error) {
	w := l.wanted
	if !w.discover {
		return resolveAll(ctx, []login.Portal{w.place})
	}
	targets, err := l.discover(ctx, auth)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range targets {
		if t.Name == w.target {
			return resolveAll(ctx, t.Portals)
		}
		names = append(names, t.Name)
	}
	return nil, unknown(w, names)
}

// authenticationFailed is the status by which a target refuses a user or a secret (RFC 7143, 11.13.5).
const authenticationFailed = 0x0201

// discover asks the host what targets there are. One that refuses our user is asked without: discovery and target may have secrets of
// their own, and many hosts want none for discovery. But one that is to prove itself is believed nothing before it has.
func (l *link) discover(ctx context.Context, auth login.Auth) ([]login.Target, error) {
	address := l.wanted.place.Address()
	targets, err := login.Discover(ctx, address, l.wanted.initiator, auth)
	var status *login.StatusError
	switch {
	case err == nil:
		return targets, nil
	case auth.Mutual != nil && fault.Is(err, fault.Forbidden):
		return nil, fault.Hintf(err, "mutual_chap holds for the discovery too: set it up for that at the host as well, or leave discover out")
	case auth.CHAP != nil && auth.Mutual == nil && errors.As(err, &status) && status.Code() == authenticationFailed:
		if targets, open := login.Discover(ctx, address, l.wanted.initiator, login.Auth{}); open == nil {
			return targets, nil
		}
	}
	return nil, err
}

// unknown is the error for a target that the host does not tell of.
func unknown(w wanted, names []string) error {
	const most = 8
	has := "it shows none to " + w.initiator
	if len(names) > most {
		has = fmt.Sprintf("it has %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	} else if len(names) > 0 {
		has = "it has " + strings.Join(names, ", ")
	}
	err := fault.New(fault.NotFound, "%s tells of no target %s: %s", w.place.Address(), w.target, has)
	return fault.Hintf(err, "check the name; the target may also be closed to this initiator (an ACL)")
}

// resolveAll resolves portals, up to maxPlaces; those that cannot be are left out where others can, and so is what comes twice.
func resolveAll(ctx context.Context, portals []login.Portal) ([]login.Portal, error) {
	var all []login.Portal
	var first error
	for n, p := range distinct(portals) {
		if n == maxPlaces || len(all) >= maxPlaces {
			break
		}
		found, err := login.Resolve(ctx, p)
		if err != nil && first == nil {
			first = err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, first
	}
	all = distinct(all)
	return all[:min(len(all), maxPlaces)], nil
}

// distinct gives each address once, in order.
func distinct(portals []login.Portal) []login.Portal {
	seen := map[string]bool{}
	var all []login.Portal
	for _, p := range portals {
		if !seen[p.Address()] {
			seen[p.Address()] = true
			all = append(all, p)
		}
	}
	return all
}

// tryEach logs in at the first address that lets us, and follows the target where it sends us.
func (l *link) tryEach(ctx context.Context, places []login.Portal, auth login.Auth) error {
	var failed []error
	redirects := 0
	for n := 0; n < len(places); n++ {
		err := l.try(ctx, places[n], len(places)-n, auth)
		if err == nil {
			l.portal = places[n]
			return nil
		}
		if to, moved := login.Redirected(err); moved {
			if redirects++; redirects > login.MaxRedirects {
				return login.TooFar()
			}
			there, rerr := resolveAll(ctx, []login.Portal{to})
			if rerr == nil {
				places = append(places[:n+1:n+1], append(there, places[n+1:]...)...)
				continue
			}
			err = rerr
		}
		failed = append(failed, err)
		if errors.Is(ctx.Err(), context.Canceled) {
			return err
		}
		if ctx.Err() != nil || final(err) {
			break
		}
	}
	return oneOf(failed)
}

// final says whether other addresses would answer the same.
func final(err error) bool {
	switch fault.KindOf(err) {
	case fault.Forbidden, fault.Invalid, fault.Unsupported, fault.Internal:
		return true
	}
	return false
}

// oneOf makes one error of those of several addresses. The kind and the hint are those of the one that got farthest: a target's own word
// says more than a port that is closed.
func oneOf(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	chosen := failed[0]
	var texts []string
	for _, err := range failed {
		if len(texts) < maxTold {
			texts = append(texts, err.Error())
		}
		var status *login.StatusError
		if errors.As(err, &status) {
			chosen = err
			texts[len(texts)-1] = err.Error() // told in any case
		}
	}
	if more := len(failed) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	err := fault.New(fault.KindOf(chosen), "%d addresses were tried: %s", len(failed), strings.Join(texts, "; "))
	if hint := fault.HintOf(chosen); hint != "" {
		err = fault.Hintf(err, "%s", hint)
	}
	return err
}

// try logs in at one address; left says how many there are from this one on, which share the time.
func (l *link) try(ctx context.Context, place login.Portal, left int, auth login.Auth) error {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		share := max(time.Until(deadline)/time.Duration(left), minTry)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	conn, err := login.Connect(ctx, place.Address())
	if err != nil {
		return err
	}
	defer conn.Close() // the kernel has it by then, or nobody
	if err := l.join(ctx, conn, place); err != nil {
		return err
	}
	if err := l.negotiate(ctx, auth); err != nil {
		return fault.New(fault.KindOf(err), "log in at %s: %w", place.Address(), err)
	}
	return nil
}
